"""Make the valid golden checkpoints and the manifest: `python -m slimspec.golden.build`.

A tiny Qwen3-like float model (2 layers, hidden size 64) with seeded weights is quantized by each
scheme, for each producer profile and model dtype. The same command makes the same bytes.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.checkpoint.writer import CheckpointWriter
from slimspec.data import folder
from slimspec.golden.cases import load_patches
from slimspec.numeric import to_dtype
from slimspec.pipeline.quantize import Plan, quantize_directory

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, VOCABULARY = 64, 4, 2, 16, 2, 48
_SEED = 20240
_RANGES = {"*.self_attn.o_proj": (-1.25, 0.75), "*.down_proj": (-3.0, 3.5), "*": (-2.0, 2.5)}
_DTYPES = {"fp16": ("F16", "float16"), "bf16": ("BF16", "bfloat16"), "fp32": ("F32", "float32")}


@dataclass(frozen=True)
class Recipe:
    """One valid golden checkpoint."""

    id: str
    comment: str
    dtype: str  # key of _DTYPES
    plan: Plan


def recipes() -> Iterator[Recipe]:
    """Every valid golden checkpoint of the schemes that need no calibration run."""
    for dtype in ("fp16", "bf16"):
        yield Recipe(f"float-a1-{dtype}", "described, nothing quantized", dtype, Plan("FLOAT"))
        for producer in ("A1", "A0"):
            yield from _recipes(dtype, producer)
    yield Recipe(
        "w8a8-a0-fp32", "static W8A8 of a float32 model: deq_scale is int64", "fp32",
        Plan("W8A8", "A0", ranges=_RANGES, part_file_size=0),
    )  # fmt: skip
    yield Recipe(
        "w8a8-l0-fp16", "static W8A8 in the legacy layout", "fp16",
        Plan("W8A8", "L0", ranges=_RANGES, part_file_size=0),
    )  # fmt: skip
    yield Recipe(
        "w8a8-mf-bf16", "static W8A8 as MindIE-SD stores it: deq_scale is float32", "bf16",
        Plan("W8A8", "MF", ranges=_RANGES, part_file_size=0),
    )  # fmt: skip
    for producer in ("A1", "A0"):
        yield Recipe(
            f"w8a8-mix-{producer.lower()}-bf16", "W8A8_MIX: static and dynamic in one", "bf16",
            Plan("W8A8_MIX", producer, ranges=_RANGES, part_file_size=0),
        )  # fmt: skip


def _recipes(dtype: str, producer: str) -> Iterator[Recipe]:
    tail = f"{producer.lower()}-{dtype}"
    rest: dict[str, Any] = {"producer": producer, "part_file_size": 4 if producer == "A1" else 0}
    yield Recipe(
        f"w8a8-{tail}", "static W8A8, o_proj of layer 1 left FLOAT", dtype,
        Plan("W8A8", ranges=_RANGES, exclude=("model.layers.1.self_attn.o_proj",), **rest),
    )  # fmt: skip
    yield Recipe(
        f"w8a8-dynamic-{tail}", "W8A8_DYNAMIC, per-channel", dtype, Plan("W8A8_DYNAMIC", **rest)
    )
    yield Recipe(f"w8a16-{tail}", "W8A16, per-channel symmetric", dtype, Plan("W8A16", **rest))
    yield Recipe(
        f"w8a16-asym-g32-{tail}", "W8A16, per-group 32 asymmetric", dtype,
        Plan("W8A16", group_size=32, symmetric=False, **rest),
    )  # fmt: skip


def float_tensors(dtype: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the tensors of the tiny float model, in a fixed order."""
    # the legacy generator is the one whose stream NumPy promises never to change
    random = np.random.RandomState(_SEED)
    target = whole_dtype(_DTYPES[dtype][0])

    def normal(*shape: int) -> NDArray[Any]:
        return to_dtype(random.standard_normal(shape).astype(np.float32), target)

    def ones(size: int) -> NDArray[Any]:
        return to_dtype(np.ones(size, dtype=np.float32), target)

    yield "model.embed_tokens.weight", normal(VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", ones(HIDDEN)
        for name, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            yield f"{prefix}.self_attn.{name}_proj.weight", normal(rows * HEAD_DIM, HIDDEN)
            yield f"{prefix}.self_attn.{name}_proj.bias", normal(rows * HEAD_DIM)
        yield f"{prefix}.self_attn.o_proj.weight", normal(HIDDEN, HEADS * HEAD_DIM)
        yield f"{prefix}.post_attention_layernorm.weight", ones(HIDDEN)
        for name in ("gate", "up", "down"):
            yield f"{prefix}.mlp.{name}_proj.weight", normal(HIDDEN, HIDDEN)
    yield "model.norm.weight", ones(HIDDEN)
    yield "lm_head.weight", normal(VOCABULARY, HIDDEN)


def write_float(directory: Path, dtype: str) -> None:
    """Write the tiny float model as a Hugging Face directory."""
    source = directory.with_name(directory.name + "-companions")
    source.mkdir()
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN,
        "model_type": "qwen2",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "torch_dtype": _DTYPES[dtype][1],
        "vocab_size": VOCABULARY,
    }
    (source / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (source / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with CheckpointWriter(directory, profile="FLOAT") as writer:
        writer.copy_companions(source)
        for name, array in float_tensors(dtype):
            writer.write(name, array, None)


def build(golden: Path) -> None:
    """Write `checkpoints/valid` and `manifest.json` below `golden`, replacing what is there."""
    valid = golden / "checkpoints" / "valid"
    shutil.rmtree(valid, ignore_errors=True)
    valid.mkdir(parents=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for recipe in recipes():
            source = Path(temporary) / recipe.dtype
            if not source.exists():
                write_float(source, recipe.dtype)
            quantize_directory(source, valid / recipe.id, recipe.plan)
            rows.append(
                {
                    "id": recipe.id,
                    "path": f"checkpoints/valid/{recipe.id}",
                    "comment": recipe.comment,
                    "origin": "reference",
                    "type": recipe.plan.scheme,
                    "profile": recipe.plan.producer,
                    "model_dtype": _DTYPES[recipe.dtype][0],
                }
            )
    for path in valid.rglob("*"):  # the producer's modes do not survive version control
        path.chmod(0o755 if path.is_dir() else 0o644)
    write_manifest(golden, rows)


def write_manifest(golden: Path, valid: list[dict[str, Any]]) -> None:
    """List every golden file with its sha256."""
    invalid = [
        {"id": case["id"], "path": path, "base": case["base"]}
        for path, case in load_patches(golden)
    ]
    files = [
        {
            "path": path.relative_to(golden).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(golden.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    ]
    manifest = {
        "format": 1,
        "generated": "python -m slimspec.golden.build",
        "checkpoints": {"valid": valid, "invalid": invalid},
        "files": files,
    }
    text = json.dumps(manifest, indent=1) + "\n"
    (golden / "manifest.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else folder("golden"))

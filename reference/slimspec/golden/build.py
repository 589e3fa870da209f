"""Make the valid golden checkpoints and the manifest: `python -m slimspec.golden.build`.

Tiny float models with seeded weights (`tiny_models`) are quantized as `recipes` says. The same
command makes the same bytes.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import open_checkpoint
from slimspec.checkpoint.writer import CheckpointWriter
from slimspec.data import folder
from slimspec.golden.checkpoints import PATCHES, patch_rows
from slimspec.golden.recipes import Recipe, recipes
from slimspec.golden.tiny_models import DTYPES, HEAD_DIM, HEADS, KV_HEADS, LAYERS, write_float
from slimspec.golden.vectors import listing
from slimspec.numeric import to_dtype
from slimspec.pipeline.compress import Options, compress_directory
from slimspec.pipeline.quantize import VARIANTS, quantize_directory
from slimspec.schemes.attention_base import Batches, attention_schemes

_SEED = 7
_METADATA = {
    "C8": {"kv_cache_type": "C8", "kv_quant_type": "C8"},
    "FAQuant": {"fa_quant_type": "FAKQuant"},
}
_ROLES = {
    "C8": {"k_proj": KV_HEADS, "v_proj": KV_HEADS},
    "FAQuant": {"fa_q": HEADS, "fa_k": KV_HEADS, "fa_v": KV_HEADS},
}


def build(golden: Path) -> None:
    """Write `checkpoints/valid` and `manifest.json` below `golden`, replacing what is there."""
    valid = golden / "checkpoints" / "valid"
    shutil.rmtree(valid, ignore_errors=True)
    valid.mkdir(parents=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for recipe in recipes():
            _make(recipe, Path(temporary), valid / recipe.id)
            rows.append(_row(recipe))
    for path in valid.rglob("*"):  # the producer's modes do not survive version control
        path.chmod(0o755 if path.is_dir() else 0o644)
    write_manifest(golden, rows)


def _make(recipe: Recipe, work: Path, out: Path) -> None:
    source = work / f"{recipe.model}-{recipe.dtype}"
    if not source.exists():
        write_float(source, recipe.dtype, recipe.model)
    if not recipe.tp and recipe.attention is None:
        quantize_directory(source, out, recipe.plan)
        return
    quantized = work / recipe.id
    quantize_directory(source, quantized, recipe.plan)
    if recipe.tp:
        compress_directory(quantized, out, Options(tp=recipe.tp))
    else:
        _add_attention(quantized, out, recipe)


def _add_attention(quantized: Path, out: Path, recipe: Recipe) -> None:
    """Copy a directory and give each attention module its scales."""
    kind = recipe.attention or ""
    checkpoint = open_checkpoint(quantized)
    labels = checkpoint.description.labels if checkpoint.description else {}
    with CheckpointWriter(
        out,
        profile=recipe.plan.producer,
        model_quant_type=recipe.plan.scheme,
        metadata=_METADATA[kind],
    ) as writer:
        writer.copy_companions(quantized)
        for name in checkpoint.table.names:
            writer.write(name, checkpoint.tensor(name), labels[name])
        for layer in range(LAYERS):
            module = f"model.layers.{layer}.self_attn"
            for suffix, array in _attention_tensors(recipe, kind, layer):
                writer.write(f"{module}.{suffix}", array, kind)
            if kind == "FAQuant":
                writer.describe(f"{module}.quant_type", "INT8")


def _attention_tensors(recipe: Recipe, kind: str, layer: int) -> Iterator[tuple[str, NDArray[Any]]]:
    scheme = attention_schemes()[kind]
    variant = VARIANTS[recipe.plan.producer]
    batches = _samples(kind, layer, variant == "v0" and kind == "C8")
    found = scheme.quantize(batches, variant=variant)
    tag = DTYPES[recipe.dtype][0]
    yield from scheme.tensors(found, recipe.plan.producer, tag).items()


def _samples(kind: str, layer: int, flat: bool) -> Batches:
    """One seeded calibration batch: states [1, heads, 8, d], or projection outputs [8, heads·d]."""
    random = np.random.RandomState(_SEED + layer)  # the stream that NumPy promises to keep
    samples = {}
    for role, heads in _ROLES[kind].items():
        states = random.standard_normal((1, heads, 8, HEAD_DIM)).astype(np.float32)
        if flat:
            states = states.transpose(0, 2, 1, 3).reshape(8, heads * HEAD_DIM)
        samples[role] = [to_dtype(states, np.float32)]
    return samples


def _row(recipe: Recipe) -> dict[str, Any]:
    return {
        "id": recipe.id,
        "path": f"checkpoints/valid/{recipe.id}",
        "comment": recipe.comment,
        "origin": "reference",
        "type": recipe.type,
        "profile": "SC" if recipe.tp else recipe.plan.profile,
        "model_dtype": DTYPES[recipe.dtype][0],
    }


def write_manifest(golden: Path, valid: list[dict[str, Any]]) -> None:
    """List every golden file with its sha256."""
    patches = {name: patch_rows(golden, name) for name in PATCHES}
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
        "checkpoints": {"valid": valid, **patches},
        "vectors": listing(golden),
        "files": files,
    }
    (golden / "manifest.json").write_text(_text(manifest) + "\n", encoding="utf-8")


def _text(value: Any, indent: str = "") -> str:
    """JSON with one row of a list in a line: short, and a change is a line in version control."""
    if isinstance(value, dict):
        inner = indent + " "
        members = (f"{inner}{json.dumps(key)}: {_text(v, inner)}" for key, v in value.items())
        return "{\n" + ",\n".join(members) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        rows = (f"{indent} {json.dumps(row)}" for row in value)
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return json.dumps(value)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else folder("golden"))

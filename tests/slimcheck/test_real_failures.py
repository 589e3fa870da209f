"""What goes wrong in the world, one test each: the directory is broken in exactly that way.

The rows are the clusters of real reports, most frequent first: family and description, engine
support, shards, closure, shapes, coverage, header keys, values, equations, dtypes.
"""

import shutil
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console

from slimcheck.report import Report
from slimcheck.report.terminal import print_report
from slimcheck.run import run
from slimspec.data import folder
from slimspec.golden.patch import apply

SHARD = "quant_model_weights-00001-of-00001.safetensors"
DESCRIPTION = "quant_model_description.json"
LINEAR = "model.layers.0.self_attn.q_proj"


class Failure(NamedTuple):
    """A report from the world: what was done, and what the judge must say of it."""

    id: str
    source: str
    base: str
    patch: list[dict[str, Any]]
    requirement: str
    said: list[str]
    consumers: tuple[str, ...] = ()
    strict: bool = False


def json_value(path: list[str], value: Any, file: str = DESCRIPTION) -> dict[str, Any]:
    return {"op": "json", "file": file, "path": path, "value": value}


FAILURES = [
    Failure(
        "description-not-copied", "vllm-ascend#876", "w8a8-a1-fp16",
        [{"op": "delete", "file": DESCRIPTION}],
        "DIR-002", ["no quant_model_description*.json", "exactly one description file"],
    ),
    Failure(
        "backup-of-the-description", "MindIE mindie_llm_config.py:103", "w8a8-a1-fp16",
        [{"op": "copy", "file": DESCRIPTION, "to": f"old_{DESCRIPTION}"}],
        "DIR-002", [f"old_{DESCRIPTION}"],
    ),
    Failure(
        "group-size-that-mindie-rejects", "gpustack#3295", "w8a8-dynamic-a1-bf16",
        [json_value(["quantization_config"], {"group_size": -1}, "config.json")],
        "CFG-003", ["group_size -1", "0, 64, 128, 256"], ("mindie",),
    ),
    Failure(
        "fp8-config-of-the-source-model", "vllm-ascend PR#9734", "w8a8-dynamic-a1-bf16",
        [json_value(["quantization_config"], {"quant_method": "fp8"}, "config.json")],
        "DIR-023", ["quant_method 'fp8'"], ("vllm-ascend",), strict=True,
    ),
    Failure(
        "shard-cut-in-download", "vllm-ascend#955", "w8a8-a1-fp16",
        [{"op": "truncate", "file": SHARD, "bytes": 3}],
        "IDX-001", [SHARD, "the size of the data"],
    ),
    Failure(
        "lfs-pointer-instead-of-weights", "users.md row 111", "w8a8-a1-fp16",
        [{"op": "write", "file": SHARD,
          "text": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"}],
        "IDX-001", ["git-LFS pointer", SHARD],
    ),
    Failure(
        "interrupted-export", "msmodelslim safetensors.py:34,133,165", "w8a8-a1-fp16",
        [{"op": "rename", "file": SHARD, "to": "quant_model_weights-00001-of-00000.safetensors"}],
        "IDX-005", ["-of-00000", "interrupted"],
    ),
    Failure(
        "index-of-the-float-model", "MindIE weight_utils.py:76-90", "w8a8-a1-fp16",
        [{"op": "write", "file": "model.safetensors.index.json",
          "text": '{"metadata": {}, "weight_map": {"a": "model-00001-of-00014.safetensors"}}'}],
        "DIR-010", ["model-00001-of-00014.safetensors"], ("mindie",),
    ),
    Failure(
        "mtp-layer-not-described", "vllm-ascend#5794", "w8a8-a1-fp16",
        [{"op": "tensor", "file": SHARD, "name": "model.layers.2.head.weight", "dtype": "F16",
          "shape": [4, 4], "fill": 1}],
        "DESC-020", ["model.layers.2.head.weight", "FLOAT"],
    ),
    Failure(
        "weight-offset-dropped", "vllm-ascend#986", "w8a8-dynamic-a1-bf16",
        [{"op": "tensor-remove", "file": SHARD, "name": f"{LINEAR}.weight_offset"},
         {"op": "json-remove", "file": DESCRIPTION, "path": [f"{LINEAR}.weight_offset"]}],
        "DESC-023", [f"{LINEAR}.weight_offset"],
    ),
    Failure(
        "bias-labelled-with-the-type", "msmodelslim 0a0aede", "w8a16-a1-bf16",
        [json_value([f"{LINEAR}.bias"], "W8A16")],
        "DESC-022", [f"{LINEAR}.bias", "FLOAT"],
    ),
    Failure(
        "one-deq-scale-for-the-matrix", "formats D5, mm_tensor", "w8a8-a0-fp16",
        [{"op": "tensor", "file": "quant_model_weight_w8a8.safetensors",
          "name": f"{LINEAR}.deq_scale", "dtype": "I64", "shape": [1], "fill": 964789128}],
        "W8A8-009", ["shape [1]", "[n] = [64]"], ("vllm-ascend",),
    ),
    Failure(
        "embedding-not-saved", "vllm-ascend#6754", "w8a8-a1-fp16",
        [{"op": "tensor-remove", "file": SHARD, "name": "model.embed_tokens.weight"}],
        "DESC-021", ["model.embed_tokens.weight"],
    ),
    Failure(
        "group-size-as-text", "foundation_model_compression.md:294", "w8a16-asym-g32-a1-bf16",
        [json_value(["group_size"], "32")],
        "DESC-008", ["'32'"],
    ),
    Failure(
        "zero-scale", "msit 13760fbf2", "w8a8-dynamic-a1-bf16",
        [{"op": "tensor-values", "file": SHARD, "name": f"{LINEAR}.weight_scale", "at": 9,
          "value": 0.0}],
        "DYN-002", [f"{LINEAR}.weight_scale", "[9"],
    ),
    Failure(
        "offset-that-wraps-in-int8", "vllm-ascend w8a8_static.py:68-70", "w8a8-a1-fp16",
        [{"op": "tensor-values", "file": SHARD, "name": f"{LINEAR}.input_offset", "at": 0,
          "value": 130}],
        "W8A8-006", ["130"],
    ),
    Failure(
        "quant-bias-of-another-layer", "users.md V06", "w8a8-a0-fp16",
        [{"op": "tensor-values", "file": "quant_model_weight_w8a8.safetensors",
          "name": f"{LINEAR}.quant_bias", "at": 7, "value": 913}],
        "W8A8-012", ["[7]", "913"],
    ),
    Failure(
        "torch-dtype-edited", "vllm-ascend#624", "w8a8-a1-bf16",
        [json_value(["torch_dtype"], "float16", "config.json")],
        "CFG-008", ["float16"], ("vllm-ascend",),
    ),
    Failure(
        "deq-scale-in-the-wrong-container", "msmodelslim ascendv1.py:264-275", "w8a8-a1-bf16",
        [{"op": "tensor", "file": SHARD, "name": f"{LINEAR}.deq_scale", "dtype": "I64",
          "shape": [64], "fill": 1000000000}],
        "DEQ-002", [f"{LINEAR}.deq_scale", "F32"], ("vllm-ascend",),
    ),
]  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.id)
def test_failure_is_caught_and_explained(failure: Failure, tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / failure.base, directory)
    assert run(directory).conformant
    apply(failure.patch, directory)
    report = run(directory, consumers=failure.consumers, strict=failure.strict)
    assert int(report.exit_code) == 1
    block = block_of(report, failure.requirement)
    print(block)
    for text in failure.said:
        assert text in block
    for field in ("where", "found", "expected", "effect", "fix"):
        assert f"\n  {field:<10}" in block


def block_of(report: Report, requirement: str) -> str:
    """What the terminal says of one requirement."""
    text = StringIO()
    print_report(report, Console(file=text, width=200, highlight=False))
    blocks = text.getvalue().split("\n\n")
    return next(block for block in blocks if block.startswith(f"ERROR {requirement}"))


def test_type_that_an_engine_does_not_load_is_its_verdict() -> None:
    report = run(folder("golden") / "checkpoints" / "valid" / "w8a16-a1-bf16")
    verdicts = {v.consumer: v for v in report.verdicts}
    assert verdicts["mindie-atb"].verdict == "ok"
    assert verdicts["vllm-ascend-310p"].verdict == "will not load"
    assert "W8A16" in verdicts["vllm-ascend-310p"].reasons[0]

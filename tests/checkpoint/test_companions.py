"""What the writer copies along: config.json without its old quantization, and the tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimspec.checkpoint import CheckpointError, CheckpointWriter

Put = Callable[[str, bytes | str], Path]


def copied(source: Path, out: Path, **options: Any) -> Path:
    with CheckpointWriter(out, model_quant_type="W8A8") as writer:
        writer.copy_companions(source, **options)
    return out


def test_companions_are_copied_and_weights_are_not(put: Put, tmp_path: Path) -> None:
    kept = ["config.json", "merges.txt", "modeling_x.py", "chat.jinja", "tokenizer.model"]
    left = ["model.safetensors", "model.safetensors.index.json", "quant_model_description.json",
            ".hidden.json", "readme.md", "model_sharded_metadata.json"]  # fmt: skip
    for name in kept + left:
        put(f"float/{name}", "{}")
    out = copied(tmp_path / "float", tmp_path / "out")
    extra = ["quant_model_description.json", "quant_model_weights.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == sorted(kept + extra)


def test_config_without_quantization_config_is_copied_as_it_is(put: Put, tmp_path: Path) -> None:
    text = '{ "rope_theta": 1e4,\n"torch_dtype": "bfloat16" }'
    put("float/config.json", text)
    assert (copied(tmp_path / "float", tmp_path / "out") / "config.json").read_text() == text


def test_quantization_config_is_dropped_at_both_levels(put: Put, tmp_path: Path) -> None:
    config = {"a": 1, "quantization_config": {}, "text_config": {"b": 2, "quantization_config": {}}}
    put("float/config.json", json.dumps(config))
    out = copied(tmp_path / "float", tmp_path / "out")
    assert json.loads((out / "config.json").read_text()) == {"a": 1, "text_config": {"b": 2}}


def test_config_changes_are_applied(put: Put, tmp_path: Path) -> None:
    put("float/config.json", '{"a": 1, "b": 2}')
    changes = {"quantize": "w8a8", "b": None}
    out = copied(tmp_path / "float", tmp_path / "out", changes=changes)
    assert json.loads((out / "config.json").read_text()) == {"a": 1, "quantize": "w8a8"}


def test_broken_config_is_one_line(put: Put, tmp_path: Path) -> None:
    put("float/config.json", "{,}")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        copied(tmp_path / "float", tmp_path / "out")


@pytest.mark.parametrize("inner", ["", "sub"])
def test_output_never_replaces_its_source(put: Put, tmp_path: Path, inner: str) -> None:
    put("m/model.safetensors", "")
    source = put(str(Path("m", inner, "config.json")), "{}").parent
    writer = CheckpointWriter(tmp_path / "m", model_quant_type="W8A8", overwrite=True)
    with pytest.raises(CheckpointError, match="would replace its source"), writer:
        writer.copy_companions(source)
    assert (tmp_path / "m" / "model.safetensors").exists()

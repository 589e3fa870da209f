"""What `slimcheck diff` says of two directories, and what it refuses to compare."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from slimcheck import diff as diff_module
from slimcheck.cli import main
from slimcheck.diff import diff
from slimspec.data import folder

VALID = folder("golden") / "checkpoints" / "valid"
BASE = VALID / "w8a8-a1-fp16"
SHARD = "quant_model_weights-00001-of-00001.safetensors"
DESCRIPTION = "quant_model_description.json"
UP = "model.layers.0.mlp.up_proj"


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    shutil.copytree(BASE, tmp_path / "b")
    return tmp_path / "b"


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_tensors(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = {name: array.copy() for name, array in load_file(directory / SHARD).items()}
    change(tensors)
    save_file(tensors, directory / SHARD)


def said(a: Path, b: Path, **options: Any) -> list[tuple[str, str, str, list[str]]]:
    return [(c.kind, c.a, c.b, c.names) for c in diff(a, b, **options)]


def test_copy_is_the_same(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(BASE, changed) == []
    assert main(["diff", str(BASE), str(changed)]) == 0
    assert capsys.readouterr().out == "the same\n"


@pytest.mark.parametrize("name", sorted(path.name for path in VALID.iterdir()))
def test_every_golden_checkpoint_is_itself(name: str) -> None:
    assert diff(VALID / name, VALID / name) == []


def test_other_shards_and_another_order_are_the_same(changed: Path) -> None:
    tensors = load_file(changed / SHARD)
    names = sorted(tensors, reverse=True)
    (changed / SHARD).unlink()
    for i, part in enumerate((names[:30], names[30:]), 1):
        file = changed / f"quant_model_weights-{i:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, file)
    assert said(BASE, changed) == []


def test_one_bit_of_one_value_is_a_difference(changed: Path) -> None:
    def flip(tensors: dict[str, Any]) -> None:
        tensors[f"{UP}.weight"].view(np.uint8).reshape(-1)[-1] ^= 1

    edit_tensors(changed, flip)
    assert said(BASE, changed) == [("values", "", "", [f"{UP}.weight"])]
    assert said(BASE, changed, values=False) == []
    assert main(["diff", str(BASE), str(changed), "-q"]) == 1
    assert main(["diff", str(BASE), str(changed), "-q", "--level", "layout"]) == 0


def test_last_piece_is_compared_too(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff_module, "PIECE", 7)
    edit_tensors(changed, lambda t: t[f"{UP}.deq_scale"].reshape(-1).__setitem__(-1, 1))
    assert said(BASE, changed) == [("values", "", "", [f"{UP}.deq_scale"])]


def test_nan_equals_itself_and_minus_zero_is_not_zero(tmp_path: Path) -> None:
    for name, zero in (("a", 0.0), ("b", 0.0), ("c", -0.0)):
        (tmp_path / name).mkdir()
        tensors = {"x": np.array([np.nan, zero], np.float32)}
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert diff(tmp_path / "a", tmp_path / "b") == []
    assert [c.kind for c in diff(tmp_path / "a", tmp_path / "c")] == ["values"]


def test_tensors_that_come_go_or_change_form(changed: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors["new.weight"] = np.zeros((2, 3), np.float32)
        del tensors[f"{UP}.input_scale"]
        tensors[f"{UP}.quant_bias"] = tensors[f"{UP}.quant_bias"].astype(np.int64)
        tensors[f"{UP}.weight"] = tensors[f"{UP}.weight"].reshape(-1)

    n, k = load_file(BASE / SHARD)[f"{UP}.weight"].shape
    with safe_open(BASE / SHARD, "numpy") as file:
        scale = file.get_slice(f"{UP}.input_scale")
        spec = f"{scale.get_dtype()} {scale.get_shape()}"
    edit_tensors(changed, change)
    assert sorted(said(BASE, changed)) == [
        ("dtype", "I32", "I64", [f"{UP}.quant_bias"]),
        ("shape", f"[{n}, {k}]", f"[{n * k}]", [f"{UP}.weight"]),
        ("tensor", spec, "absent", [f"{UP}.input_scale"]),
        ("tensor", "absent", "F32 [2, 3]", ["new.weight"]),
    ]


def test_labels_metadata_config_and_files(changed: Path) -> None:
    def description(value: dict[str, Any]) -> None:
        value[f"{UP}.weight"] = "W8A8_DYNAMIC"
        value["extra.weight"] = "FLOAT"
        value["group_size"] = 64

    def config(value: dict[str, Any]) -> None:
        value["torch_dtype"] = "bfloat16"
        value["rope_scaling"] = {"type": "yarn", "factor": 4.0}

    edit_json(changed / DESCRIPTION, description)
    edit_json(changed / "config.json", config)
    (changed / "tokenizer_config.json").write_text("{}")
    (changed / "merges.txt").write_text("a b")
    assert sorted(said(BASE, changed)) == [
        ("config", "'float16'", "'bfloat16'", ["torch_dtype"]),
        ("config", "absent", "'yarn'", ["rope_scaling.type"]),
        ("config", "absent", "4.0", ["rope_scaling.factor"]),
        ("file", "", "", ["tokenizer_config.json"]),
        ("file", "absent", "present", ["merges.txt"]),
        ("label", "W8A8", "W8A8_DYNAMIC", [f"{UP}.weight"]),
        ("label", "absent", "FLOAT", ["extra.weight"]),
        ("metadata", "0", "64", ["group_size"]),
    ]


def test_same_change_of_many_tensors_is_one_line(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(value: dict[str, Any]) -> None:
        for layer in (0, 1):
            value[f"model.layers.{layer}.mlp.up_proj.weight"] = "FLOAT"

    edit_json(changed / DESCRIPTION, change)
    assert main(["diff", str(BASE), str(changed)]) == 1
    line, last = capsys.readouterr().out.splitlines()
    assert line.startswith("~ label    model.layers.{0-1}.mlp.up_proj.weight (2")
    assert line.endswith(": W8A8 -> FLOAT")
    assert last == "different: 2 changes of 1 kinds"


def truncate(d: Path) -> None:
    (d / SHARD).write_bytes((d / SHARD).read_bytes()[:-3])


def no_weights(d: Path) -> None:
    (d / SHARD).unlink()


def bad_description(d: Path) -> None:
    (d / DESCRIPTION).write_text("{")


def bad_config(d: Path) -> None:
    (d / "config.json").write_text('{"a": 1, "a": 2}')


def second_copy(d: Path) -> None:
    shutil.copy(d / SHARD, d / "copy.safetensors")


@pytest.mark.parametrize(
    "damage", [truncate, no_weights, bad_description, bad_config, second_copy],
    ids=lambda damage: damage.__name__,
)  # fmt: skip
def test_what_cannot_be_read_is_never_the_same(
    changed: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(changed)
    for pair in ((BASE, changed), (changed, BASE), (changed, changed)):
        assert main(["diff", *map(str, pair)]) == 4
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1


def test_wrong_usage_exits_with_4(tmp_path: Path) -> None:
    assert main(["diff"]) == 4
    assert main(["diff", str(BASE), str(tmp_path / "nowhere")]) == 4
    assert main(["diff", "--help"]) == 0

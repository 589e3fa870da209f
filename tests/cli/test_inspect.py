"""`slimspec inspect`: what a reader sees of a directory."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from slimspec.checkpoint import open_checkpoint
from slimspec.cli import main
from slimspec.cli.inspect import rows
from slimspec.data import folder

VALID = folder("golden") / "checkpoints" / "valid"


def test_rows_of_one_module_stand_together_the_weight_first() -> None:
    found = rows(open_checkpoint(VALID / "w8a8-a1-bf16"))
    modules = [tuple(name.rpartition(".")[0] for name in row.names) for row in found]
    starts = [i for i, each in enumerate(modules) if i == 0 or each != modules[i - 1]]
    assert len(starts) == len(set(modules))
    for i in starts:
        assert all(name.endswith(".weight") for name in found[i].names)
    labels = [found[i].label for i in starts]
    assert labels == sorted(labels, key=lambda label: label == "FLOAT")


def test_rows_hold_every_tensor_once() -> None:
    checkpoint = open_checkpoint(VALID / "w8a8-a1-bf16")
    found = rows(checkpoint)
    assert sorted(name for row in found for name in row.names) == sorted(checkpoint.table.names)
    assert sum(row.nbytes for row in found) == checkpoint.table.nbytes


def test_names_are_whole_where_the_output_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = ".".join(["a_rather_long_component"] * 8)
    save_file({name: np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    assert main(["inspect", str(tmp_path)]) == 0
    assert f"  {name}  " in capsys.readouterr().out


def test_hostile_names_and_labels_are_shown_literally(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "[red]:smile:\x1b[2J\n"
    shutil.copytree(VALID / "w8a8-dynamic-a1-bf16", target)
    names = ["e[/]", "[red]f", ":smile:", "g\x1b[31m", "h\ni"]
    tensors = {f"{name}.weight": np.zeros((2, i + 1), np.float32) for i, name in enumerate(names)}
    save_file(tensors, target / "quant_model_weights-00002-of-00002.safetensors")
    description = json.loads((target / "quant_model_description.json").read_text())
    description |= dict.fromkeys(tensors, "[bold]\x1bX[/]")
    (target / "quant_model_description.json").write_text(json.dumps(description))
    assert main(["inspect", str(target)]) == 0
    out = capsys.readouterr().out
    for shown in ("e[/]", "[red]f", ":smile:", "g\\x1b[31m", "h\\ni", "[bold]\\x1bX[/]"):
        assert shown in out
    assert "[red]:smile:\\x1b[2J\\n: " in out
    assert "\x1b" not in out


def test_empty_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", ""]) == 4
    assert capsys.readouterr().err.count("\n") == 1

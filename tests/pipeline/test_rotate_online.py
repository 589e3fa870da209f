"""Rotations left to the engine: the linears read turned inputs, and the files say which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimcheck.run import run as judge
from slimspec.checkpoint import open_checkpoint
from slimspec.cli import main
from slimspec.pipeline.rotate_online import turn_kronecker
from slimspec.smooth.hadamard import rotation

Build = Callable[..., Path]
DOWN, OUT = "model.layers.1.mlp.down_proj", "model.layers.0.self_attn.o_proj"


def rotate(**members: object) -> dict:
    return {"step": "rotate", "online": True, "max_tp_size": 2, **members}


def config(tmp_path: Path, *steps: dict, **members: object) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"steps": list(steps), **members}), encoding="utf-8")
    return str(path)


def test_kronecker_form_is_the_product_with_the_whole_matrix() -> None:
    w = np.random.default_rng(0).standard_normal((5, 8 * 16)).astype(np.float32)
    m, n = rotation(8, block_size=2), rotation(16)
    whole = w.astype(np.float64) @ np.kron(m, n)
    assert np.abs(turn_kronecker(w, m, n) - whole).max() <= 2**-20 * np.abs(whole).max()


def test_turned_inputs_give_the_same_outputs(build: Build, tmp_path: Path) -> None:
    """Against the offline rotation alone: W·K·(Kᵀ·x) = W·x, with K from the stored matrices."""
    source = str(build("qwen3", "float32"))
    made = []
    for name, step in (("on", rotate(down_proj_layers=[1])), ("off", {"step": "rotate"})):
        asked = config(tmp_path, step)
        assert main(["quantize", source, str(tmp_path / name), "--config", asked]) == 0
        assert [r.requirement.id for r in judge(tmp_path / name).failed if r.counts] == []
        made.append(open_checkpoint(tmp_path / name))
    online, offline = made
    heads = online.tensor(f"{OUT}.heads_rotation").astype(np.float64)
    parts = [online.tensor(f"{DOWN}.kronecker_rotation_{p}").astype(np.float64) for p in "mn"]
    width = online.tensor(f"{OUT}.weight").shape[1] // len(heads)
    for name, k in ((OUT, np.kron(heads, np.eye(width))), (DOWN, np.kron(*parts))):
        assert np.abs(k @ k.T - np.eye(len(k))).max() < 1e-6
        turned, plain = (c.tensor(f"{name}.weight").astype(np.float64) for c in made)
        assert np.abs(turned @ k.T - plain).max() <= 2**-18 * np.abs(plain).max()
    other = "model.layers.0.mlp.down_proj"
    assert np.array_equal(online.tensor(f"{other}.weight"), offline.tensor(f"{other}.weight"))
    assert f"{other}.kronecker_rotation_m" not in online.table


def test_description_lists_the_linears(build: Build, tmp_path: Path) -> None:
    steps = [rotate(down_proj_layers=[1]), {"step": "quantize", "type": "W8A8_DYNAMIC"}]
    source = str(build("qwen3"))
    asked = config(tmp_path, *steps)
    assert main(["quantize", source, str(tmp_path / "q"), "--config", asked]) == 0
    assert [r.requirement.id for r in judge(tmp_path / "q").failed if r.counts] == []
    text = (tmp_path / "q" / "quant_model_description.json").read_text(encoding="utf-8")
    every = [f"model.layers.{i}.self_attn.o_proj" for i in (0, 1)]
    assert json.loads(text)["metadata"] == {
        "quarot": {
            "max_tp_size": 2,
            "heads_rotation": {"layers": every},
            "kronecker_rotation": {"layers": [DOWN]},
        }
    }


STATIC = {"step": "quantize", "type": "W8A8"}
BAD = {
    "another model": ("llama", [rotate()], {}, "found llama, the service has it for qwen3 only"),
    "with texts": (
        "qwen3", [rotate(), STATIC], {"calib_texts": ["a"]}, "that need no calibration text",
    ),
    "another producer": ("qwen3", [rotate()], {"producer": "MF"}, "with producer A1"),
    "not online": (
        "qwen3", [{"step": "rotate", "max_tp_size": 2}], {}, "has an effect with online true only",
    ),
    "no such layer": ("qwen3", [rotate(down_proj_layers=[2])], {}, "found 2, expected 0 to 1"),
    "more ranks than heads": ("qwen3", [rotate(max_tp_size=8)], {}, "block size 8 does not divide"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_mistake_is_one_line(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    family, steps, members, said = BAD[name]
    asked = config(tmp_path, *steps, **members)
    assert main(["quantize", str(build(family)), str(tmp_path / "q"), "--config", asked]) == 4
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "q").exists()

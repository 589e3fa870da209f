"""AWQ of the one-click service: its grid, and the float32 weights that its search leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimcheck.run import run as judge
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.cli import main
from slimspec.numeric import as_float32
from slimspec.pipeline.calibrate import CalibrationRun
from slimspec.pipeline.calibration.blocks import block_loss, run_block
from slimspec.pipeline.calibration.settings import Settings, SmoothStep
from slimspec.pipeline.quantize import open_float
from slimspec.pipeline.recipe import KEEP, Rule
from slimspec.pipeline.steps import parse_steps
from slimspec.quantize.awq import fake_scaled, mean_magnitude

Build = Callable[..., Path]
TOKENS = [np.arange(9) * 7 % 250, np.arange(14) * 11 % 250]
UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"


def smoothed(folder: Path, **members: object) -> CalibrationRun:
    step = SmoothStep("awq", ("up-down",), **members)  # type: ignore[arg-type]
    run = CalibrationRun(
        open_float(folder), TOKENS, Settings("v1", anti_method="awq", smoothing=step)
    )
    run.observe({DOWN: Rule(DOWN, KEEP)})
    return run


def test_a_grid_of_one_power_has_the_scale_one(build: Build) -> None:
    folder = build("llama", "float32")
    stored = open_float(folder).tensor(f"{DOWN}.weight")
    for points, same in ((1, True), (20, False)):
        made = smoothed(folder, n_grid=points).result.weights.stored(f"{DOWN}.weight")
        assert np.array_equal(made, stored) is same


def test_means_of_many_rows_add_in_blocks_of_sixteen() -> None:
    """2^24 + (1 + 1), where one row after the other loses both ones."""
    x = np.zeros((18, 32), np.float32)
    x[0], x[16:] = 2.0**24, -1
    assert mean_magnitude(x).tolist() == [np.float32(2**24 + 2) / np.float32(18)] * 32


def test_grids_of_other_methods_and_without_points_are_refused() -> None:
    for method, points, said in (("iter_smooth", 10, "does not take n_grid"), ("awq", 0, "n_grid")):
        step = {"step": "smooth", "method": method, "n_grid": points}
        with pytest.raises(CheckpointError, match=said):
            parse_steps({"steps": [step], "calib_texts": ["a"]}, "c.yaml")


def test_consumers_are_float32_afterwards_and_hold_the_unrounded_product(build: Build) -> None:
    folder = build("llama", "bfloat16")
    weights, stored = smoothed(folder).result.weights, open_float(folder)
    down, up = (weights.stored(f"{name}.weight") for name in (DOWN, UP))
    assert (down.dtype, up.dtype) == (np.float32, stored.tensor(f"{UP}.weight").dtype)
    scale = down / as_float32(stored.tensor(f"{DOWN}.weight"))
    one = scale[0].astype(up.dtype).astype(np.float32)  # the scale is of the model's dtype
    assert np.array_equal(down, as_float32(stored.tensor(f"{DOWN}.weight")) * one)
    assert not np.array_equal(down, down.astype(up.dtype).astype(np.float32))


def test_all_candidates_but_the_first_are_made_in_float32(build: Build) -> None:
    folder = build("llama", "bfloat16")
    run = CalibrationRun(open_float(folder), TOKENS, Settings("v1"))
    layer = next(iter(run.model.layers()))
    w = run.result.weights.stored(f"{DOWN}.weight")
    rng = np.random.default_rng(3)
    x = [rng.standard_normal((5, w.shape[1])).astype(w.dtype)]
    scale = (1 + rng.random(w.shape[1])).astype(w.dtype)
    golden = as_float32(run_block(layer, DOWN, x, {DOWN: w})[0])
    loss = block_loss(layer, [DOWN], [w], x, 4)
    for weight in (w, as_float32(w), as_float32(w)):
        fake = fake_scaled(weight, scale, bits=4)
        error = golden - as_float32(run_block(layer, DOWN, x, {DOWN: fake})[0])
        assert loss(scale) == pytest.approx(float((error**2).mean()), rel=0.02)
    assert block_loss(layer, [DOWN], [w], x, 4)(scale) != loss(scale)


def test_directory_keeps_float32_weights_and_the_words_of_its_own_dtype(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    """deq_scale goes by the dtype of the model, not by that of the weight (A1: float32 of bf16)."""
    steps = [
        {"step": "smooth", "method": "awq", "subgraphs": ["norm-linear", "up-down"], "n_grid": 3},
        {"step": "quantize", "type": "W8A8", "include": ["*.self_attn.*"]},
    ]
    config = tmp_path / "steps.json"
    config.write_text(json.dumps({"steps": steps, "calib_file": str(calib_file)}), encoding="utf-8")
    assert main(["quantize", str(build()), str(tmp_path / "q"), "--config", str(config)]) == 0
    made = open_checkpoint(tmp_path / "q")
    assert made.tensor("model.layers.0.self_attn.q_proj.deq_scale").dtype == np.float32
    assert made.tensor(f"{DOWN}.weight").dtype == np.float32
    assert [r.requirement.id for r in judge(tmp_path / "q").failed if r.counts] == []

"""While it smooths, the one-click service has its own norms: float32, one eps for all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from slimspec.model.norm import service_norm
from slimspec.pipeline.calibrate import CalibrationRun
from slimspec.pipeline.calibration.settings import Settings, SmoothStep
from slimspec.pipeline.quantize import open_float
from slimspec.pipeline.recipe import Rule
from slimspec.pipeline.smooth_model import own_norms

Build = Callable[..., Path]
TOKENS = [np.arange(9) * 7 % 250, np.arange(14) * 11 % 250]
BEHIND_NORMS = ("self_attn.q_proj", "mlp.gate_proj")
NAMES = [f"model.layers.{i}.{part}" for i in (0, 1) for part in (*BEHIND_NORMS, "self_attn.o_proj")]


def run(folder: Path, method: str, **members: object) -> CalibrationRun:
    step = SmoothStep(method, **members)  # type: ignore[arg-type]
    settings = Settings("v1", anti_method=step.anti_method, smoothing=step)
    made = CalibrationRun(open_float(folder), TOKENS, settings)
    made.observe({name: Rule(name, "W8A8") for name in NAMES})
    return made


def with_eps(source: Path, out: Path, eps: float) -> Path:
    shutil.copytree(source, out)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps({**config, "rms_norm_eps": eps}), encoding="utf-8")
    return out


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_values_are_those_of_the_weight_dtype_in_float32(dtype: type) -> None:
    """Against x/√(mean(x²)+1e-6)·w in float64: two roundings to dtype, half a unit each."""
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((7, 96)), rng.standard_normal(96)
    for given in (x.astype(dtype), x.astype(np.float32)):
        found = service_norm(given, w.astype(dtype))
        assert found.dtype == np.float32
        assert np.array_equal(found, found.astype(dtype).astype(np.float32))
        wide = given.astype(np.float64)
        exact = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-6) * w.astype(dtype)
        unit = float(ml_dtypes.finfo(dtype).eps)
        assert (np.abs(found - exact) <= 1.01 * unit * np.abs(exact) + 1e-7).all()


def test_float32_states_are_rounded_before_the_weight_and_biases_are_added_in_float32() -> None:
    x = np.full((1, 4), 1 + 2**-9, np.float32)  # its normal form is 1 to within 2^-19
    w = np.array([1, 1.0078125, 2, 3], ml_dtypes.bfloat16)
    bias = np.full(4, 2**-12, np.float32)
    assert service_norm(x, w, bias).tolist() == [(w.astype(np.float32) + bias).tolist()]


@pytest.mark.parametrize("method", ["iter_smooth", "smooth_quant"])
def test_ranges_behind_replaced_norms_know_no_eps_of_the_model(
    build: Build, tmp_path: Path, method: str
) -> None:
    own = build("qwen3")
    other = with_eps(own, tmp_path / "eps", 0.25)
    scales = [
        [float(np.ravel(p.scale)[0]) for p in run(folder, method).result.inputs.values()]
        for folder in (own, other)
    ]
    assert scales[0][0] == scales[1][0]  # the first norm sees the same states


def test_other_methods_and_other_norms_keep_the_model_own(build: Build, tmp_path: Path) -> None:
    own = build("qwen3")
    other = with_eps(own, tmp_path / "eps", 0.25)
    for method, members in (
        ("flex_smooth_quant", {"alpha": 0.5, "beta": 0.5}),
        ("iter_smooth", {"subgraphs": ("ov", "up-down")}),
        ("iter_smooth", {"include": ("*.post_attention_layernorm",)}),
    ):
        a, b = (run(folder, method, **members).result.inputs for folder in (own, other))
        assert a[NAMES[0]].scale != b[NAMES[0]].scale


def test_what_follows_a_replaced_norm_is_float32(build: Build) -> None:
    """A 16-bit model runs on in float32 behind the first quantized linear that reads such a norm.

    Without smoothing every input of a float16 model is float16, and so are its scales.
    """
    folder = build("qwen3", "float16")
    made = run(folder, "iter_smooth")
    assert made.result.reached
    assert {np.dtype(d) for d in made.result.reached.values()} == {np.dtype(np.float32)}
    plain = CalibrationRun(open_float(folder), TOKENS, Settings("v1"))
    plain.observe({name: Rule(name, "W8A8") for name in NAMES})
    assert {np.dtype(d) for d in plain.result.reached.values()} == {np.dtype(np.float16)}


def test_norms_that_are_replaced(build: Build) -> None:
    folder = build("qwen3")
    found = {}
    for ours in ("m1", "m4", "m6"):
        settings = Settings("v1", anti_method=ours)
        made = CalibrationRun(open_float(folder), TOKENS, settings)
        a, weights = made.model.architecture, made.result.weights
        found[ours] = own_norms(a, "model.layers.1", weights, settings)
    norms = {f"model.layers.1.{n}" for n in ("input_layernorm", "post_attention_layernorm")}
    assert found == {"m1": norms, "m4": norms, "m6": set()}

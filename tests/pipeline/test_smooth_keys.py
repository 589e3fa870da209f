"""kv_smooth: the model computes the same, its keys are of one size, other models are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from slimcheck.run import run as judge
from slimspec.cli import main
from slimspec.model import Decoder
from slimspec.pipeline.calibrate import Calibration
from slimspec.pipeline.calibration.attention import StatesRecorder
from slimspec.pipeline.calibration.samples import encode_texts, read_texts
from slimspec.pipeline.quantize_steps import prepare_steps
from slimspec.pipeline.smooth_keys import key_scale
from slimspec.pipeline.steps import parse_steps

Build = Callable[..., Path]
STEP = {"step": "kv_smooth"}
TOKENS = np.arange(3, 40, 3)


def smoothed(source: Path, calib_file: Path, **members: object) -> Calibration:
    steps = parse_steps({"calib_file": str(calib_file), "steps": [{**STEP, **members}]})
    found = prepare_steps(source, steps)[0].calibration
    assert found is not None
    return found


def logits(model: Decoder, tokens: np.ndarray) -> np.ndarray:
    h = model.embed(tokens)
    for layer in model.layers():
        h = layer(h)
    return model.head(h)


def again(source: Path, found: Calibration) -> Decoder:
    """The model with the weights as they are after smoothing."""
    plain = Decoder.open(source)
    return Decoder(plain.architecture, found.weights, plain.numerics)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("factor", [1, 0.5])
def test_logits_stay_the_same(build: Build, calib_file: Path, family: str, factor: float) -> None:
    source = build(family, "float32")
    changed = again(source, smoothed(source, calib_file, factor=factor))
    plain, turned = logits(Decoder.open(source), TOKENS), logits(changed, TOKENS)
    # one rounding more per weight and product, through two layers
    assert np.abs(turned - plain).max() <= 2**-14 * np.abs(plain).max()
    assert not np.array_equal(turned, plain)


@pytest.mark.parametrize(("family", "shared"), [("qwen2", False), ("qwen3", True)])
def test_largest_key_of_a_rotated_pair_becomes_one(
    build: Build, calib_file: Path, family: str, shared: bool
) -> None:
    """Of each head, or of all heads where norms take the scale."""
    source = build(family, "float32")
    model = again(source, smoothed(source, calib_file))
    model.states = recorder = StatesRecorder()
    for tokens in encode_texts(read_texts(calib_file), source):
        logits(model, tokens)
    for batches in recorder.seen.values():
        peak = np.max([np.abs(k).max(axis=1) for k in batches["k"]], axis=0)  # (kv, d)
        pairs = peak.reshape(len(peak), 2, -1).max(axis=1)
        assert np.allclose(pairs.max(axis=0) if shared else pairs, 1, atol=1e-5)


def test_attentions_are_chosen_by_globs(build: Build, calib_file: Path) -> None:
    found = smoothed(build("qwen3", "float32"), calib_file, exclude=["*.0.self_attn"])
    folded = {name for name, folds in found.weights.folds.items() if folds}
    attention = "model.layers.1.self_attn"
    assert folded == {f"{attention}.k_norm.weight", f"{attention}.q_norm.weight"}


def test_channel_without_keys_keeps_its_scale() -> None:
    keys = np.zeros((2, 3, 4), ml_dtypes.bfloat16)
    keys[0, 1, 3] = -2  # pairs are (0, 2) and (1, 3)
    assert key_scale([keys], 1, shared=False).tolist() == [[1, 2, 1, 2], [1, 1, 1, 1]]
    assert key_scale([keys], 2, shared=True).tolist() == [[1, 4, 1, 4]]


def test_exponent_is_rounded_to_the_dtype_of_the_keys() -> None:
    keys = np.full((1, 1, 2), 100, ml_dtypes.bfloat16)
    expected = ml_dtypes.bfloat16(100.0 ** float(ml_dtypes.bfloat16(0.7)))
    assert key_scale([keys], 0.7, shared=True)[0, 0] == expected


def test_directory_with_a_cache_is_conformant(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    steps = [STEP, {"step": "quantize", "type": "W8A8_DYNAMIC"}, {"step": "cache"}]
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"calib_file": str(calib_file), "steps": steps}), "utf-8")
    source = str(build("qwen2"))
    assert main(["quantize", source, str(tmp_path / "q"), "--config", str(config)]) == 0
    assert [r.requirement.id for r in judge(tmp_path / "q").failed if r.counts] == []


@pytest.mark.parametrize(
    ("family", "step", "said"),
    [
        ("llama", STEP, "found llama, the service has it for qwen2 and qwen3 only"),
        ("qwen2", {**STEP, "factor": 0}, "steps.0.factor: 0 is less than or equal"),
    ],
)
def test_mistake_is_one_line(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture, family: str, step: dict, said: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"calib_texts": ["a"], "steps": [step]}), "utf-8")
    source = str(build(family))
    assert main(["quantize", source, str(tmp_path / "q"), "--config", str(config)]) == 4
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1

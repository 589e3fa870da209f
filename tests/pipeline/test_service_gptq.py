"""GPTQ as a method of steps: what its Hessians are made of, what runs on, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimcheck.run import run as judge
from slimspec import schemes
from slimspec.checkpoint import Checkpoint, open_checkpoint
from slimspec.cli import main
from slimspec.model import Decoder
from slimspec.model.sdpa import attend_fused
from slimspec.pipeline.calibration.inputs import Inputs
from slimspec.pipeline.calibration.observers import fake_tokens
from slimspec.pipeline.calibration.samples import encode_texts, read_texts
from slimspec.quantize.gptq import quantize_gptq

Build = Callable[..., Path]
ATTENTION, MLP = ["*.self_attn.*"], ["*.mlp.*"]
UP = "model.layers.1.mlp.up_proj"


def gptq(type_: str, **members: object) -> dict:
    return {"step": "quantize", "type": type_, "method": "gptq", **members}


@pytest.fixture
def made(build: Build, calib_file: Path, tmp_path: Path) -> Callable[..., Checkpoint]:
    """made(*steps, …) -> the directory of a tiny float32 model."""

    def make(*steps: dict, family: str = "llama", **members: object) -> Checkpoint:
        config = tmp_path / "config.yaml"
        found = {"calib_file": str(calib_file), "steps": list(steps), **members}
        config.write_text(json.dumps(found), encoding="utf-8")
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        source = str(build(family, "float32"))
        assert main(["quantize", source, str(out), "--config", str(config)]) == 0
        return open_checkpoint(out)

    return make


def float_inputs(source: Path, calib_file: Path) -> Inputs:
    """What every linear of the float model reads, text by text."""
    model, seen = Decoder.open(source), Inputs()
    model.attend = attend_fused  # as the service
    hidden = [model.embed(tokens) for tokens in encode_texts(read_texts(calib_file), source)]
    for layer in model.layers():
        hidden = [layer(h, observe=seen) for h in hidden]
    return seen


DIRECTORIES = {
    "static": [gptq("W8A8")],
    "mixed prefill": [gptq("W8A8_MIX", percdamp=0.05, block_size=16)],
    "dynamic and int4": [
        gptq("W8A8_DYNAMIC", include=ATTENTION),
        gptq("W4A8_DYNAMIC", include=MLP),
    ],
    "groups": [
        gptq("W8A16", symmetric=False, group_size=32, include=ATTENTION),
        gptq("W8A8_DYNAMIC", group_size=32, include=MLP),
    ],
    "cache": [gptq("W8A8_DYNAMIC"), {"step": "cache"}],
}


@pytest.mark.parametrize(
    ("name", "producer"), [*((name, "A1") for name in DIRECTORIES), ("static", "MF")]
)
def test_directory_is_conformant(made: Callable[..., Checkpoint], name: str, producer: str) -> None:
    found = made(*DIRECTORIES[name], producer=producer)
    assert found.profile.name == producer
    assert [r.requirement.id for r in judge(found.path).failed if r.counts] == []


def test_float_weights_pass_everything_on_while_texts_pass(
    build: Build, calib_file: Path, made: Callable[..., Checkpoint]
) -> None:
    """W8A16 quantizes no input, so every Hessian is that of the float model."""
    source = build("llama", "float32")
    floats, inputs = open_checkpoint(source), float_inputs(source, calib_file)
    found = made(gptq("W8A16"))
    assert len(inputs) == 14
    for name, batches in inputs.items():
        w = floats.tensor(f"{name}.weight")
        expected = quantize_gptq(w, batches, variant="v1", name=name)
        assert np.array_equal(found.tensor(f"{name}.weight"), expected.q), name
        assert np.array_equal(found.tensor(f"{name}.weight_scale"), expected.scale)


def test_hessian_is_that_of_quantized_inputs(
    build: Build, calib_file: Path, made: Callable[..., Checkpoint]
) -> None:
    source, name = build("llama", "float32"), "model.layers.0.self_attn.q_proj"
    raw = float_inputs(source, calib_file)[name]
    w = open_checkpoint(source).tensor(f"{name}.weight")
    stored = made(gptq("W8A8_DYNAMIC")).tensor(f"{name}.weight")
    rounded = [fake_tokens(x) for x in raw]
    assert np.array_equal(stored, quantize_gptq(w, rounded, variant="v1").q)
    assert not np.array_equal(stored, quantize_gptq(w, raw, variant="v1").q)


def test_four_bits_err_less_on_the_texts_than_min_max(
    build: Build, calib_file: Path, made: Callable[..., Checkpoint]
) -> None:
    """Σ (x·w - x·ŵ)² over all texts, for a linear that reads float inputs in both."""
    source, name = build("llama", "float32"), "model.layers.0.mlp.down_proj"
    x = np.concatenate(float_inputs(source, calib_file)[name]).astype(np.float64)
    w = open_checkpoint(source).tensor(f"{name}.weight")
    scheme, errors = schemes.get("W4A8_DYNAMIC"), []
    for method in ("gptq", "minmax"):
        found = made({**gptq("W4A8_DYNAMIC"), "method": method})
        tensors = {s: found.tensor(f"{name}.{s}") for s in ("weight", "weight_scale", "scale_bias")}
        tensors["weight_offset"] = np.zeros_like(tensors["weight_scale"])
        seen = scheme.dequantize(scheme.from_tensors(tensors, "A1", name))
        errors.append(float(((x @ (seen.astype(np.float64) - w).T) ** 2).sum()))
    assert errors[0] < 0.8 * errors[1]


def test_steps_see_those_before_them_quantized(made: Callable[..., Checkpoint]) -> None:
    """One after the other: the second step's inputs hold the errors of the first one's weights."""
    int4 = {"step": "quantize", "type": "W4A8_DYNAMIC", "include": ATTENTION}
    hessian = gptq("W8A16", include=MLP)
    name = f"{UP}.weight"
    behind = made(int4, hessian, one_pass=False).tensor(name)
    before = made(hessian, int4, one_pass=False).tensor(name)
    alone = made(hessian).tensor(name)
    assert np.array_equal(before, alone)
    assert not np.array_equal(behind, alone)


BAD = {
    "of a 16-bit model": ([gptq("W8A8")], "bfloat16", "expected a float32 model"),
    "of a type without it": ([gptq("W8A8_MXFP8")], "float32", "expected one of minmax, mse_round"),
    "damping without it": (
        [{"step": "quantize", "type": "W8A8", "percdamp": 0.1}],
        "float32",
        "method minmax does not take percdamp",
    ),
    "without damping": ([gptq("W8A8", percdamp=0)], "float32", "steps.0.percdamp: 0 is less"),
    "groups that do not divide": ([gptq("W8A16", group_size=7)], "float32", "group size 7"),
    "groups of int4": (
        [gptq("W4A8_DYNAMIC", group_size=32)],
        "float32",
        "W4A8_DYNAMIC of A1 has one scale per row",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_mistake_is_one_line(
    build: Build, calib_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    steps, dtype, said = BAD[name]
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"calib_file": str(calib_file), "steps": steps}), "utf-8")
    source = str(build("llama", dtype))
    assert main(["quantize", source, str(tmp_path / "q"), "--config", str(config)]) == 4
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "q").exists()


def test_text_is_needed(build: Build, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"steps": [gptq("W8A16")]}), "utf-8")
    source = str(build("llama", "float32"))
    assert main(["quantize", source, str(tmp_path / "q"), "--config", str(config)]) == 4
    assert "give calib_file or calib_texts" in capsys.readouterr().err


def test_expert_that_no_text_reaches_is_named(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = tmp_path / "config.yaml"
    steps = [gptq("W8A8_DYNAMIC", exclude=["*.gate"])]
    config.write_text(json.dumps({"calib_texts": ["a"], "steps": steps}), "utf-8")
    source = str(build("qwen3_moe", "float32"))
    assert main(["quantize", source, str(tmp_path / "q"), "--config", str(config)]) == 4
    said = capsys.readouterr().err
    assert "no calibration text reaches this linear" in said
    assert "no Hessian for GPTQ" in said

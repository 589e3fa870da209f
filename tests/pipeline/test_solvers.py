"""Weights by GPTQ and HQQ in the pipeline: conformant, nearer on the text, clear errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimcheck.run import run as judge
from slimspec import schemes
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.cli import main
from slimspec.numeric import as_float32
from slimspec.pipeline.calibration.samples import encode_texts, read_texts
from slimspec.pipeline.config import parse_config
from slimspec.pipeline.config_rules import Choice
from slimspec.pipeline.quantize import open_float, quantize_directory
from slimspec.pipeline.quantize_config import Extra, prepare
from slimspec.pipeline.recipe import Rule
from slimspec.pipeline.solvers import make_solver
from slimspec.schemes import Linear

Build = Callable[..., Path]
CONFIG = parse_config({"w_bit": 8, "a_bit": 16})
FIRST = "model.layers.0.self_attn.q_proj"


GROUPS = "--is_lowbit True --open_outlier False --group_size 32"
DIRECTORIES = [
    "HQQ 8",
    "HQQ 4 --w_sym False",
    "GPTQ 8 --mm_tensor True",
    "GPTQ 4",
    f"HQQ 8 {GROUPS} --w_sym False",
    f"GPTQ 4 {GROUPS}",
]
LOW_ROWS = {  # with is_lowbit True: type -> what chooses it
    "W8A8": "--open_outlier False",
    "W8A8_MIX": "--pdmix",
    "W8A8_DYNAMIC": "--is_dynamic True",
    "W8A16": "--a_bit 16",
}


@pytest.mark.parametrize("label", LOW_ROWS)
def test_low_bit_rows_of_eight_bits_have_float32_scales(
    build: Build, calib_file: Path, tmp_path: Path, label: str
) -> None:
    """max|w| / 127 in float32, also in a 16-bit model, whatever the group size."""
    source = build("llama", "float16")
    options = ["--is_lowbit", "True", "--group_size", "32", *LOW_ROWS[label].split()]
    options += ["--calib_file", str(calib_file)]
    assert main(["quantize", str(source), str(tmp_path / "q"), *options]) == 0
    assert [r.requirement.id for r in judge(tmp_path / "q").failed if r.counts] == []
    made = open_checkpoint(tmp_path / "q")
    assert made.description is not None
    assert made.description.labels[f"{FIRST}.weight"] == label
    w = open_checkpoint(source).tensor(f"{FIRST}.weight").astype(np.float32)
    scale = np.abs(w).max(axis=1, keepdims=True) / np.float32(127)
    stored = made.tensor(f"{FIRST}.weight_scale")
    assert stored.dtype == np.float32
    assert np.array_equal(stored, scale)
    assert np.array_equal(made.tensor(f"{FIRST}.weight"), np.rint(w / scale).astype(np.int8))


def test_groups_of_gptq_hold_the_float_weight_on_its_scales(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    source = build("llama", "float32")
    config = parse_config(
        {"w_bit": 4, "a_bit": 16, "is_lowbit": True, "open_outlier": False, "group_size": 32,
         "calib_file": str(calib_file)}
    )  # fmt: skip
    plan, _ = prepare(source, config, Extra(w_method="GPTQ"))
    assert plan.solver is not None
    linear = Linear(open_float(source).tensor(f"{FIRST}.weight"), None, FIRST)
    assert plan.rules is not None
    made = plan.solver(linear, plan.rules[FIRST])
    scale = np.repeat(made.stored.scale, 32, axis=1)
    again = np.clip(np.rint(linear.weight / scale), -8, 7)
    assert np.array_equal(made.stored.q, again)
    assert not np.array_equal(made.seen, made.stored.q * scale)  # the run sees the compensated one


@pytest.mark.parametrize("choice", DIRECTORIES)
def test_directory_is_conformant(
    build: Build, calib_file: Path, tmp_path: Path, choice: str
) -> None:
    method, w_bit, *more = choice.split()
    options = ["--w_method", method, "--w_bit", w_bit, "--a_bit", "16", *more]
    options += ["--calib_file", str(calib_file)] if method == "GPTQ" else []
    assert main(["quantize", str(build("llama", "float16")), str(tmp_path / "q"), *options]) == 0
    report = judge(tmp_path / "q")
    assert [r.requirement.id for r in report.failed if r.counts] == []
    labels = open_checkpoint(tmp_path / "q").description.labels  # type: ignore[union-attr]
    assert labels[f"{FIRST}.weight"] == f"W{w_bit}A16"


def test_gptq_of_four_bits_errs_less_on_the_first_text(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    """Its purpose: Σ (x·w - x·ŵ)² over the text that made the Hessian, for the first linear."""
    source = build("llama", "float32")
    config = parse_config({"w_bit": 4, "a_bit": 16, "calib_file": str(calib_file)})
    seen = {}
    for method in ("MinMax", "GPTQ"):
        plan, _ = prepare(source, config, Extra(w_method=method))
        quantize_directory(source, tmp_path / method, plan)
        if plan.solver:
            seen = plan.solver.inputs
    x = as_float32(seen[FIRST]).astype(np.float64)
    exact = open_float(source).tensor(f"{FIRST}.weight").astype(np.float64)
    errors = {
        method: float(((x @ (_weight(tmp_path / method) - exact).T) ** 2).sum())
        for method in ("MinMax", "GPTQ")
    }
    assert errors["GPTQ"] < 0.8 * errors["MinMax"]


def _weight(folder: Path) -> np.ndarray:
    made = open_checkpoint(folder)
    suffixes = ("weight", "weight_scale", "weight_offset")
    tensors = {s: made.tensor(f"{FIRST}.{s}") for s in suffixes}
    scheme = schemes.get("W4A16")
    return scheme.dequantize(scheme.from_tensors(tensors, "A0")).astype(np.float64)


def test_hessian_is_that_of_the_first_text_alone(build: Build, calib_file: Path) -> None:
    source, texts = build("llama", "float32"), read_texts(calib_file)
    members = {"w_bit": 8, "a_bit": 16}
    plan, _ = prepare(
        source, parse_config({**members, "calib_texts": texts}), Extra(w_method="GPTQ")
    )
    alone, _ = prepare(
        source, parse_config({**members, "calib_texts": texts[:1]}), Extra(w_method="GPTQ")
    )
    assert plan.solver is not None
    assert alone.solver is not None
    assert plan.solver.inputs.keys() == alone.solver.inputs.keys()
    for name, x in plan.solver.inputs.items():
        assert len(x) == len(encode_texts(texts[:1], source)[0])
        np.testing.assert_array_equal(x, alone.solver.inputs[name])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--w_method", "GPTQ", "--a_bit", "16"], "needs calibration text"),
        (["--w_method", "GPTQ", "--a_bit", "8", "--calib_texts", "a"], "set a_bit 16"),
        (["--w_method", "HQQ", "--a_bit", "16", "--producer", "A1"], "--producer A0"),
        (["--w_method", "HQQ", "--scheme", "W8A16"], "goes with parameters like --w_bit"),
        (["--pdmix", "--scheme", "W8A16"], "--pdmix goes with parameters"),
        (["--kv_sym", "False", "--scheme", "W8A16"], "--kv_sym goes with parameters"),
        (["--kv_sym", "False", "--calib_texts", "a"], "with use_kvcache_quant only"),
        (["--w_method", "HQQ", "--a_bit", "16", "--is_lowbit", "True"], "open_outlier False"),
        (["--is_lowbit", "True", "--is_dynamic", "True", "--producer", "A1"], "--producer A0"),
        (
            ["--is_lowbit", "True", "--w_bit", "4", "--calib_texts", "a"],
            "fraction 0.01 of 64 values is 0",
        ),
    ],
)  # fmt: skip
def test_mistake_is_one_line(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], said: str
) -> None:
    assert main(["quantize", str(build()), str(tmp_path / "q"), *options]) == 4
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_linear_that_no_text_reaches_is_named() -> None:
    linear = Linear(np.ones((4, 4), np.float32), None, "other")
    solver = make_solver(CONFIG, Choice("W8A16", {}), "GPTQ")
    assert solver is not None
    solver.see("seen", np.ones((2, 4), np.float32))
    with pytest.raises(CheckpointError, match="other: no calibration text reaches this linear"):
        solver(linear, Rule("*", "W8A16"))


@pytest.mark.parametrize(("symmetric", "least"), [(True, -127), (False, -128)])
def test_file_has_no_most_negative_integer_in_symmetric_weights(
    symmetric: bool, least: int
) -> None:
    """A float16 scale below max/127 makes the largest magnitude -128; the run keeps it."""
    w = np.full((1, 64), -1.0, np.float32)
    w[0, :32] = np.linspace(-0.9, 1, 32)
    solver = make_solver(CONFIG, Choice("W8A16", {}), "HQQ")
    assert solver is not None
    made = solver(Linear(w), Rule("*", "W8A16", {"symmetric": symmetric}))
    assert made.stored.q.min() == least
    assert made.seen.min() == pytest.approx(-1, abs=0.01)


def test_run_sees_outliers_on_their_own_grid() -> None:
    """The file has one scale per row; the run has the outliers' own, a unit apart."""
    config = parse_config({"w_bit": 4, "a_bit": 8, "is_lowbit": True, "calib_texts": ["a"]})
    solver = make_solver(config, Choice("W8A8S", {}), "MinMax")
    assert solver is not None
    w = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    made = solver(Linear(w), Rule("*", "W8A8S"))
    from_file = made.stored.q * made.stored.scale
    far = np.abs(made.stored.q) >= 7
    assert (made.seen == from_file)[~far].all()
    assert (made.seen != from_file)[far].any()
    np.testing.assert_allclose(made.seen, from_file, rtol=2.0**-22)

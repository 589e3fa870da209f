"""Inputs of linears that the one-click service has deployed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from slimspec.model.numerics import Numerics
from slimspec.pipeline.calibration.fake_linear import BEHIND, CalibrationLinear
from slimspec.pipeline.calibration.settings import Settings
from slimspec.pipeline.recipe import Rule

NAMES = ("model.layers.1.mlp.gate_proj", "model.layers.1.mlp.experts.0.gate_proj")
X = np.float32([[127, 4, -1], [1, 127, 5], [-63, 2, 10]])


def rounded(column: list[float]) -> list[Fraction]:
    """Each value to its nearest step of max|column| / 127."""
    step = Fraction(max(abs(v) for v in column)) / 127
    return [round(Fraction(v) / step) * step for v in column]


@pytest.mark.parametrize("label", ["W8A8_DYNAMIC", "W4A8_DYNAMIC"])
@pytest.mark.parametrize("name", NAMES)
def test_deployed_dynamic_linears_take_a_range_per_column_experts_too(
    name: str, label: str
) -> None:
    """The weight passes the input through: diag(127), or diag(7), times a scale of one."""
    w = np.diag(np.full(3, 127 if label == "W8A8_DYNAMIC" else 7)).astype(np.float32)
    run = CalibrationLinear(
        Numerics(), {name: Rule(name, label)}, Settings("v1"), methods=lambda linear: 1
    )
    run.start(BEHIND)
    found = run(name, X, w, None) / w[0, 0]
    expected = np.float32([[float(v) for v in rounded(list(c))] for c in X.T.tolist()]).T
    assert np.allclose(found, expected, rtol=2.0**-20)
    assert not np.allclose(expected, [[float(v) for v in rounded(r)] for r in X.tolist()])


def through(label: str, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    run = CalibrationLinear(
        Numerics(), {"l": Rule("l", label)}, Settings("v1"), methods=lambda n: 1
    )
    run.start(BEHIND)
    return run("l", x, w, None)


def test_fp8_is_not_rounded_to_e4m3_in_a_run() -> None:
    """One step of E4M3 is 1/16 to 1/8 of a value; two roundings of float32 are left."""
    x = np.random.default_rng(0).uniform(1, 2, (1, 8)).astype(np.float32)
    passed = through("WFP8AFP8_DYNAMIC", x, np.eye(8, dtype=np.float32))
    assert np.allclose(passed, x, rtol=2.0**-22)
    assert np.allclose(through("WFP8AFP8_DYNAMIC", np.ones((1, 8), np.float32), x), x.sum())


def test_mx_weights_are_those_of_their_type_in_a_run() -> None:
    """1 + 2^-5 needs five bits behind the point, E4M3 has three; a scale of int8 would keep it."""
    w = np.eye(32, dtype=np.float32) * np.float32(1 + 2.0**-5)
    assert np.diag(through("W8A8_MXFP8", np.eye(32, dtype=np.float32), w)).tolist() == [1.0] * 32


def test_weights_alone_meet_16_bit_inputs_in_16_bits() -> None:
    """The scale of a row is float32; weight and product are rounded to float16."""
    run = CalibrationLinear(
        Numerics(np.float16), {"l": Rule("l", "W8A16")}, Settings("v1"), methods=lambda n: 1
    )
    run.start(BEHIND)
    found = run("l", np.ones((1, 1), np.float16), np.float16([[127.0]]), None)
    assert (found.dtype, found.item()) == (np.float16, 127.0)

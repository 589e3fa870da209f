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

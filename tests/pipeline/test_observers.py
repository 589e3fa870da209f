"""The input of a static linear while texts pass by."""

from __future__ import annotations

import numpy as np
import pytest

from slimspec.numeric import as_float32
from slimspec.numeric.arithmetic import BFLOAT16
from slimspec.pipeline.calibration.observers import RunningInput
from slimspec.pipeline.calibration.settings import Settings


def seen(variant: str, act_method: int) -> np.ndarray:
    """-8.875 to 25.625 gives the scale 34.5/255 and the offset -62: the lowest code is -8.93."""
    x = np.linspace(-8.875, 25.625, 400, dtype=np.float32).astype(BFLOAT16).reshape(-1, 8)
    linear = RunningInput("linear", Settings(variant), act_method)  # type: ignore[arg-type]
    return as_float32(linear.fake(x))


@pytest.mark.parametrize(
    ("variant", "act_method", "lowest"), [("v1", 2, -8.875), ("v1", 1, -8.9375)]
)
def test_histogram_of_the_service_keeps_values_in_its_range(
    variant: str, act_method: int, lowest: float
) -> None:
    assert seen(variant, act_method).min() == lowest

"""torch.linspace in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def linspace(low: np.float32, high: np.float32, steps: int) -> NDArray[np.float32]:
    """Return low + step·i in the first half and high - step·(steps - 1 - i) in the second.

    Product and sum round once, as one fused operation: the float64 product is exact and its sum is
    rounded to float32. Args: low, high float32. Returns: [steps] float32.
    Source: pytorch aten/src/ATen/native/cpu/RangeFactoriesKernel.cpp, compiled with FMA.
    """
    step = float((high - low) / np.float32(steps - 1))
    i = np.arange(steps, dtype=np.float64)
    rising = float(low) + step * i
    falling = float(high) - step * (steps - 1 - i)
    return np.where(i < steps // 2, rising, falling).astype(np.float32)

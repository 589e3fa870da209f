"""Static per-tensor activation parameters from a calibration range."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .affine import Variant, qparams


def activation_qparams(
    lo: ArrayLike,
    hi: ArrayLike,
    *,
    bits: int = 8,
    symmetric: bool = False,
    variant: Variant,
    name: str = "activation",
) -> tuple[NDArray, NDArray]:
    """Return the scale and offset of a range, both of shape [1].

    The formulas are those of `affine.qparams`.
    Args: lo, hi scalars or [1] arrays of float32, float16 or bfloat16 (the dtype of the model).
    Returns: scale [1], offset [1] in that dtype. Raises: ValueError for NaN or infinity.
    Source: math.md 1.6, 2.1, 2.7.
    """
    low, high = np.asarray(lo).reshape(1), np.asarray(hi).reshape(1)
    return qparams(low, high, bits=bits, symmetric=symmetric, variant=variant, name=name)

"""Choice between two exponents per block by mean squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.arithmetic import as_float32, model_dtype, mul, sub
from slimspec.numeric.reduction import cascade_mean

from .mx_blocks import scale_blocks


def block_mse(blocks: NDArray, elements: NDArray, exponent: NDArray) -> NDArray[np.float32]:
    """Return mean((x - x̂)²) per block; difference, square and mean are each rounded to D.

    Args: blocks, elements [..., b, block] and exponent [..., b] in D. Returns: float32 [..., b].
    Source: math.md 12; msmodelslim core/quantizer/impl/mse_round.py:125-129.
    """
    dtype = model_dtype(blocks.dtype)
    error = sub(blocks, scale_blocks(elements, exponent), dtype)
    return as_float32(cascade_mean(mul(error, error, dtype)))


def pick_blocks(
    first: NDArray[np.bool_], a: tuple[NDArray, NDArray], b: tuple[NDArray, NDArray]
) -> tuple[NDArray, NDArray]:
    """Return elements and exponent of `a` where `first` [..., b] holds, of `b` elsewhere."""
    return np.where(first[..., None], a[0], b[0]), np.where(first, a[1], b[1])

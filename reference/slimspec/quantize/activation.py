"""Activation parameters: static per tensor from a range, dynamic per token at run time."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slimspec.numeric import as_float32, div, round_half_even
from slimspec.numeric.saturate import saturate

from .affine import Variant, code_range, qparams, require_finite


def activation_qparams(
    lo: ArrayLike,
    hi: ArrayLike,
    *,
    bits: int = 8,
    symmetric: bool = False,
    variant: Variant,
    name: str = "activation",
) -> tuple[NDArray, NDArray]:
    """Return the static per-tensor scale and offset of a range, both of shape [1].

    The formulas are those of `affine.qparams`.
    Args: lo, hi scalars or [1] arrays of float32, float16 or bfloat16 (the dtype of the model).
    Returns: scale [1], offset [1] in that dtype. Raises: ValueError for NaN or infinity.
    Source: math.md 1.6, 2.1, 2.7.
    """
    low, high = np.asarray(lo).reshape(1), np.asarray(hi).reshape(1)
    return qparams(low, high, bits=bits, symmetric=symmetric, variant=variant, name=name)


def quantize_per_token(
    x: NDArray, *, bits: int = 8, name: str = "activation"
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize activations symmetrically per token, as at run time: nothing of it is stored.

    scale = max|x| / (2^(bits-1) - 1),  q = round_half_even(x / scale), in float32; a token of
    zeros has scale 0 and integers 0.
    Args: x [..., k] float32, float16 or bfloat16. Returns: q int8 [..., k], scale float32 [..., 1].
    Raises: ValueError naming the first NaN or infinity. Source: math.md 6.4, 13.2.
    """
    require_finite(x, name)
    wide = as_float32(x)
    low, high = code_range(bits)
    scale = div(np.max(np.abs(wide), axis=-1, keepdims=True, initial=0), high, np.float32)
    divisor = np.where(scale == 0, np.float32(1), scale)
    return saturate(round_half_even(div(wide, divisor, np.float32)), low, high, np.int8), scale

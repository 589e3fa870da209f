"""MXFP8: E4M3 elements, one exponent per block of 32 columns.

e = floor(log2(amax)) - 8          (8 = exponent of 448)
q = E4M3 value nearest to x / 2^e, ties away from zero, clipped to ±448
"""

from __future__ import annotations

from typing import Literal, get_args

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.arithmetic import add, as_float32, exp2, log2, model_dtype, sub, to_dtype
from slimspec.numeric.e8m0 import exponent_to_e8m0
from slimspec.numeric.fp8 import E4M3_MAX, float32_to_e4m3
from slimspec.numeric.rounding import round_ceil, round_floor, round_half_away_by_floor

from .affine import require_finite
from .mx_blocks import BLOCK, MxWeight, block_amax, join_blocks, scaled_down, split_blocks
from .mx_select import block_mse, pick_blocks

Method = Literal["minmax", "mse_round"]

_EMAX = 8
_MIN_EXPONENT = np.float32(-6)  # of a normal E4M3 value
_STEPS = np.float32(8)  # per power of two
_FP32_MIN_NORMAL = np.float32(2.0**-126)
_EXPONENT_LIMIT = 127


def _log2_amax(amax: NDArray) -> NDArray:
    """log2(amax), zero replaced by 2^-126, which vanishes in float16 and then gives -inf."""
    dtype = model_dtype(amax.dtype)
    substitute = to_dtype(np.where(amax == 0, _FP32_MIN_NORMAL, np.float32(0)), dtype)
    return log2(add(amax, substitute, dtype), dtype)


def _limit(exponent: NDArray) -> NDArray:
    """Exponents past 127 have no byte and become NaN, those under -127 become -127."""
    dtype = exponent.dtype
    low = np.where(exponent < -_EXPONENT_LIMIT, dtype.type(-_EXPONENT_LIMIT), exponent)
    return np.where(exponent > _EXPONENT_LIMIT, dtype.type(np.nan), low)


def mxfp8_elements(blocks: NDArray, exponent: NDArray) -> NDArray:
    """Round x / 2^e to E4M3 values: p = max(floor(log2 r), -6), q = 2^(p-3)·[r·2^(3-p)].

    [.] is half away from zero. The logarithm is a rounded float32: just below a power of two it
    gives the power, so that r may be rounded in the coarser step of the next binade.
    Args: blocks [..., b, block], exponent [..., b] in D. Returns: D; infinite where 2^e vanished.
    Source: math.md 12; msmodelslim ir/api/impl/mx_quantization.py:59-125.
    """
    r = np.where(blocks == 0, np.float32(0), scaled_down(blocks, exponent))
    binade = round_floor(log2(np.where(r == 0, np.float32(1), r), np.float32))
    power = exp2(np.maximum(binade, _MIN_EXPONENT), np.float32)
    with np.errstate(invalid="ignore"):  # inf / inf, replaced below
        q = round_half_away_by_floor(r / power * _STEPS) / _STEPS * power
    q = np.where(np.isinf(r), r, np.minimum(q, E4M3_MAX))
    return to_dtype(np.copysign(q, np.sign(as_float32(blocks))), blocks.dtype)  # -0 gives +0


def _candidate(blocks: NDArray, exponent: NDArray) -> tuple[NDArray, NDArray]:
    return mxfp8_elements(blocks, exponent), exponent


def _mse_round(blocks: NDArray, log_amax: NDArray) -> tuple[NDArray, NDArray]:
    """Round log2(amax) up if that has the smaller error, else down."""
    dtype = model_dtype(blocks.dtype)
    up = _candidate(blocks, _limit(sub(round_ceil(log_amax), _EMAX, dtype)))
    down = _candidate(blocks, _limit(sub(round_floor(log_amax), _EMAX, dtype)))
    mse_up, mse_down = block_mse(blocks, *up), block_mse(blocks, *down)
    better = np.isfinite(mse_up) & ((mse_up < mse_down) | ~np.isfinite(mse_down))
    return pick_blocks(better, up, down)


def quantize_mxfp8(
    w: NDArray, method: Method = "minmax", block: int = BLOCK, name: str = "weight"
) -> MxWeight:
    """Return elements and exponents of a weight, every step rounded to the dtype D of `w`.

    minmax:    e = floor(log2(amax + 2^-126·[amax = 0])) - 8
    mse_round: e = ceil(log2 ..) - 8 where the block's mean squared error is smaller, else as above
    Args: w [..., k] float32, float16 or bfloat16. Returns: `MxWeight` in D.
    Raises: ValueError for NaN, infinity (with `name` and index) or an unknown method; TypeError
    for other dtypes. Source: math.md 12; msmodelslim core/quantizer/impl/mse_round.py:82-137.
    """
    if method not in get_args(Method):
        raise ValueError(f"MXFP8 method {method!r} is none of {get_args(Method)}")
    dtype = model_dtype(w.dtype)
    require_finite(w, name)
    blocks = split_blocks(w, block)  # (..., b, block)
    log_amax = _log2_amax(block_amax(blocks))
    if method == "mse_round":
        elements, exponent = _mse_round(blocks, log_amax)
    else:
        elements, exponent = _candidate(blocks, _limit(sub(round_floor(log_amax), _EMAX, dtype)))
    return MxWeight(join_blocks(elements, w.shape[-1]), exponent)


def mxfp8_tensors(weight: MxWeight) -> tuple[NDArray, NDArray[np.uint8]]:
    """Return what the files hold: weight float8_e4m3fn [..., k], weight_scale uint8 [..., b].

    Source: math.md 12; formats.md 5.14 MX-001; msmodelslim save/ascendv1.py:405-419.
    """
    codes = float32_to_e4m3(np.asarray(weight.elements, np.float32), overflow="nan")
    return codes.view(ml_dtypes.float8_e4m3fn), exponent_to_e8m0(weight.exponent)

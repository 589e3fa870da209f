"""MX blocks: k consecutive values of a row share one exponent; the last block is filled with zeros.

split_blocks   [..., k] -> [..., b, block],  b = ceil(k / block)
join_blocks    the inverse, the filling cut off
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.arithmetic import as_float32, exp2, model_dtype, mul

BLOCK = 32


class MxWeight(NamedTuple):
    """elements [..., k] on the FP8 or FP4 grid and exponent [..., ceil(k / block)], both in D."""

    elements: NDArray
    exponent: NDArray


def split_blocks(x: NDArray, block: int = BLOCK) -> NDArray:
    """Cut the last axis into blocks, zeros appended. Args: x [..., k]. Returns: [..., b, block].

    Raises: ValueError for a block below 1. Source: msmodelslim ir/utils.py:34-88.
    """
    if block < 1:
        raise ValueError(f"block size {block}: expected at least 1")
    k = x.shape[-1]
    count = -(-k // block)
    filled = np.zeros((*x.shape[:-1], count * block), x.dtype)
    filled[..., :k] = x
    return filled.reshape(*x.shape[:-1], count, block)


def join_blocks(blocks: NDArray, k: int) -> NDArray:
    """Undo `split_blocks`. Args: blocks [..., b, block]; k columns to keep. Returns: [..., k]."""
    *lead, count, block = blocks.shape
    return blocks.reshape(*lead, count * block)[..., :k]


def block_amax(blocks: NDArray) -> NDArray:
    """Return the largest magnitude of each block. Args: [..., b, block]. Returns: [..., b]."""
    return np.abs(blocks).max(axis=-1)


def scale_blocks(elements: NDArray, exponent: NDArray) -> NDArray:
    """Return elements · 2^exponent, both factors and the product in the dtype of the elements.

    In float16 the factor is 0 below 2^-24, which is what producers compute.
    Args: elements [..., b, block], exponent [..., b], same dtype D. Returns: D, as elements.
    Source: msmodelslim ir/api/impl/mx_quantization.py:90-97.
    """
    dtype = model_dtype(elements.dtype)
    return mul(elements, exp2(exponent, dtype)[..., None], dtype)


def dequantize_mx(weight: MxWeight, block: int = BLOCK) -> NDArray:
    """Return x̂ = elements · 2^exponent. Args: weight [..., k], block. Returns: D [..., k]."""
    blocks = split_blocks(weight.elements, block)
    return join_blocks(scale_blocks(blocks, weight.exponent), weight.elements.shape[-1])


def scaled_down(blocks: NDArray, exponent: NDArray) -> NDArray[np.float32]:
    """Return |x| / 2^exponent in float32; the power is first rounded to the dtype of `exponent`.

    Args: blocks [..., b, block], exponent [..., b]. Returns: float32 [..., b, block]; a power that
    vanished in float16 gives inf, and NaN for zeros.
    """
    power = as_float32(exp2(exponent, model_dtype(exponent.dtype)))[..., None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(np.abs(as_float32(blocks)) / power, np.float32)

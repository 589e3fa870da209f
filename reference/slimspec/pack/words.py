"""Eight unsigned 4-bit codes in an int32, along the last axis, in a given nibble order.

word = Σ_i code[order[i]] << 4i
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.jit import jit_pays

from .check import require_dtype, require_multiple, require_range

PER_WORD = 8
SEQUENTIAL = (0, 1, 2, 3, 4, 5, 6, 7)


def _shifts(order: tuple[int, ...]) -> NDArray[np.uint32]:
    """Return the shift of each logical code: code order[i] sits at bit 4i."""
    if sorted(order) != list(SEQUENTIAL):
        raise ValueError(f"nibble order {order} is no permutation of 0..7")
    return np.argsort(order).astype(np.uint32) * np.uint32(4)


def _for_kernel(shifts: NDArray[np.uint32]) -> tuple[np.uint64, ...]:
    return tuple(shifts.astype(np.uint64))


def pack_words(
    codes: NDArray[np.uint8], order: tuple[int, ...] = SEQUENTIAL, name: str = "weight"
) -> NDArray[np.int32]:
    """Pack the last axis, eight codes to a word.

    Args: codes uint8 [..., n], 0..15, any layout; order: the logical index at each nibble.
    Returns: int32 [..., n/8]. Raises: ValueError if 8 does not divide n, or for a code above 15
    (with its index); TypeError for another dtype. Source: math.md 6.5.
    """
    require_dtype(codes, np.uint8, name)
    require_multiple(codes.shape[-1], PER_WORD, f"{name}: last axis")
    shape = (*codes.shape[:-1], codes.shape[-1] // PER_WORD)
    shifts = _shifts(order)
    if jit_pays(codes.size):
        from . import kernels

        words = np.empty(shape, np.uint32)
        octets = np.ascontiguousarray(codes).reshape(-1).view("<u8")
        if not kernels.pack_words(octets, _for_kernel(shifts), words.reshape(-1)):
            return words.view(np.int32)
    require_range(codes, 0, 15, name)
    shifted = codes.reshape(*shape, PER_WORD).astype(np.uint32) << shifts  # (..., n // 8, 8)
    return np.asarray(np.bitwise_or.reduce(shifted, axis=-1)).view(np.int32)


def unpack_words(
    words: NDArray[np.int32], order: tuple[int, ...] = SEQUENTIAL, name: str = "weight"
) -> NDArray[np.uint8]:
    """Undo `pack_words`. Args: words int32 [..., m]. Returns: codes uint8 [..., 8m].

    Raises: TypeError for another dtype.
    """
    require_dtype(words, np.int32, name)
    shape = (*words.shape[:-1], words.shape[-1] * PER_WORD)
    shifts = _shifts(order)
    unsigned = np.ascontiguousarray(words).view(np.uint32)
    if jit_pays(words.size):
        from . import kernels

        codes = np.empty(shape, np.uint8)
        octets = codes.reshape(-1).view("<u8")
        kernels.unpack_words(unsigned.reshape(-1), _for_kernel(shifts), octets)
        return codes
    return ((unsigned[..., None] >> shifts) & np.uint32(15)).astype(np.uint8).reshape(shape)

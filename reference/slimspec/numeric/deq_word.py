"""deq_scale in the files: the bits of a float32, read as int32 and sign-extended to int64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def encode_deq_scale(scale: NDArray[np.float32]) -> NDArray[np.int64]:
    """Reinterpret: int64(int32(bits(scale))). No number is converted.

    Args: scale float32, any shape. Returns: int64, same shape; upper half 0 for positive scales.
    Raises: TypeError for another dtype (a float16 scale has other bits). Source: math.md 4.2;
    formats.md 3.0 (4).
    """
    scale = np.asarray(scale)
    if scale.dtype != np.float32:
        raise TypeError(f"deq_scale word is made of float32 bits, found {scale.dtype}")
    return scale.view(np.int32).astype(np.int64)


def decode_deq_scale(word: NDArray) -> NDArray[np.float32]:
    """Reinterpret the low 32 bits of a word as float32; the upper half is ignored.

    Args: word int64 or uint64, any shape. Returns: float32, same shape. Raises: TypeError for
    another dtype. Source: formats.md 5.7 DEQ-006.
    """
    word = np.asarray(word)
    if word.dtype not in (np.dtype(np.int64), np.dtype(np.uint64)):
        raise TypeError(f"deq_scale word is int64 or uint64, found {word.dtype}")
    low = word.view(np.uint64) & np.uint64(0xFFFFFFFF)
    return low.astype(np.uint32).view(np.float32)

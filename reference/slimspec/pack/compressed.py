"""The int32 form of compressed-tensors: codes q + 8, eight in sequence along k.

weight_packed int32 [n, k/8], weight_scale [n, k/g], weight_shape int32 [2] = (n, k).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .check import require_dtype, require_range
from .words import PER_WORD, pack_words, unpack_words

_MIDDLE = np.int8(8)


def pack_compressed(q: NDArray[np.int8], name: str = "weight") -> NDArray[np.int32]:
    """Pack signed codes: nibble i of a word is q[8c + i] + 8.

    Args: q int8 [n, k], -8..7, k a multiple of 8. Returns: int32 [n, k/8]. Raises: ValueError for
    another k or a code out of range (with its index), TypeError for another dtype.
    Source: math.md 6.7; vllm-ascend quantization/methods/w4a16.py:34-107.
    """
    require_dtype(q, np.int8, name)
    require_range(q, -8, 7, name)
    return pack_words((q + _MIDDLE).view(np.uint8), name=name)


def unpack_compressed(
    packed: NDArray[np.int32], shape: tuple[int, int], name: str = "weight"
) -> NDArray[np.int8]:
    """Undo `pack_compressed`. Args: packed int32 [n, k/8]; shape: what weight_shape says.

    Returns: q int8 [n, k]. Raises: ValueError if packed and shape do not agree.
    """
    n, k = (int(size) for size in shape)
    if packed.shape != (n, k // PER_WORD) or k % PER_WORD:
        raise ValueError(f"{name}: packed {packed.shape} does not hold a weight of {(n, k)}")
    return unpack_words(packed, name=name).view(np.int8) - _MIDDLE

"""Two FP4 codes in a byte: even index in the low nibble, odd index in the high one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .check import require_dtype, require_even, require_range


def pack_fp4(codes: NDArray[np.uint8], name: str = "weight") -> NDArray[np.uint8]:
    """Pack the last axis: byte = code[2j] | code[2j + 1] << 4.

    Args: codes uint8 [..., k], 0..15. Returns: uint8 [..., k/2]. Raises: ValueError for an odd k
    or a larger code (with its index), TypeError for another dtype.
    Source: math.md 12; formats.md 5.14 MX-004, MX-005.
    """
    require_dtype(codes, np.uint8, name)
    require_even(codes.shape, -1, name)
    require_range(codes, 0, 15, name)
    return codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))


def unpack_fp4(packed: NDArray[np.uint8], name: str = "weight") -> NDArray[np.uint8]:
    """Undo `pack_fp4`. Args: packed uint8 [..., m]. Returns: codes uint8 [..., 2m].

    Raises: TypeError for another dtype.
    """
    require_dtype(packed, np.uint8, name)
    codes = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.uint8)
    codes[..., 0::2] = packed & np.uint8(15)
    codes[..., 1::2] = packed >> np.uint8(4)
    return codes

"""Two int4 codes in an int8: even index in the low nibble, odd index in the high one.

    column-paired (axis 1)  byte[i, j] = q[i, 2j] & 15 | q[i, 2j+1] << 4     [n, k] -> [n, k/2]
    row-paired    (axis 0)  byte[i, j] = q[2i, j] & 15 | q[2i+1, j] << 4     [n, k] -> [n/2, k]

Column pairs hold per-channel W4A16, row pairs per-group W4A16 and all W4A8 (formats.md 3.0.6).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.jit import jit_pays

from .check import require_dtype, require_even, require_range


def pack_int4(q: NDArray[np.int8], axis: int = -1, name: str = "weight") -> NDArray[np.int8]:
    """Pack pairs along an axis: byte = (q_odd & 15) << 4 | q_even & 15, two's complement.

    Args: q int8, any layout, codes in [-8, 7]; axis: where the pairs lie (0 row-paired, -1
    column-paired, 1 of [e, n, k] row-paired per expert). Returns: int8, C order, that axis halved.
    Raises: ValueError for an odd axis (with its size) or a code outside [-8, 7] (with its index),
    TypeError for another dtype. Source: math.md 6.3; msmodelslim save/utils/pack.py:25-68.
    """
    require_dtype(q, np.int8, name)
    require_even(q.shape, axis, name)
    packed = _pack_jit(q, axis) if jit_pays(q.size) else None
    if packed is None:  # small, jit off, or wrong codes, which are diagnosed here
        require_range(q, -8, 7, name)
        packed = pack_int4_plain(q, axis)
    return packed


def unpack_int4(packed: NDArray[np.int8], axis: int = -1, name: str = "weight") -> NDArray[np.int8]:
    """Undo `pack_int4`: even = ((b & 15) ^ 8) - 8, odd = b >> 4 (arithmetic).

    Args: packed int8, any layout; axis: where the pairs lay. Returns: int8, that axis doubled.
    Raises: TypeError for another dtype, ValueError for an axis that is not there.
    Source: math.md 6.3.
    """
    require_dtype(packed, np.int8, name)
    if not -packed.ndim <= axis < packed.ndim:
        raise ValueError(f"{name}: no axis {axis} in shape {packed.shape}")
    if jit_pays(packed.size):
        return _unpack_jit(packed, axis)
    return unpack_int4_plain(packed, axis)


def _every_second(ndim: int, axis: int, first: int) -> tuple[slice, ...]:
    index = [slice(None)] * ndim
    index[axis] = slice(first, None, 2)
    return tuple(index)


def pack_int4_plain(q: NDArray[np.int8], axis: int) -> NDArray[np.int8]:
    """The definition of `pack_int4`, unchecked: the low nibble of each code is taken."""
    even, odd = (q[_every_second(q.ndim, axis, first)] for first in (0, 1))
    return np.ascontiguousarray((even & np.int8(15)) | (odd << np.int8(4)))


def unpack_int4_plain(packed: NDArray[np.int8], axis: int) -> NDArray[np.int8]:
    """The definition of `unpack_int4`."""
    shape = list(packed.shape)
    shape[axis] *= 2
    q = np.empty(shape, np.int8)
    q[_every_second(q.ndim, axis, 0)] = ((packed & np.int8(15)) ^ np.int8(8)) - np.int8(8)
    q[_every_second(q.ndim, axis, 1)] = packed >> np.int8(4)
    return q


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """Return the sizes before, of and after an axis: any axis of any array is one of three."""
    axis %= len(shape)
    before, after = shape[:axis], shape[axis + 1 :]
    return int(np.prod(before)), shape[axis], int(np.prod(after))


def _pack_jit(q: NDArray[np.int8], axis: int) -> NDArray[np.int8] | None:
    """Return the packed array, or None if a code is out of range."""
    from . import kernels

    shape = list(q.shape)
    shape[axis] //= 2
    before, size, after = _around(q.shape, axis)
    source = np.ascontiguousarray(q)
    out = np.empty(shape, np.int8)
    if after == 1:
        wrong = kernels.pack_flat(source.reshape(-1).view("<u2"), out.reshape(-1).view(np.uint8))
    else:
        view = source.reshape(before, size, after).view(np.uint8)
        wrong = kernels.pack_rows(view, out.reshape(before, size // 2, after).view(np.uint8))
    return None if wrong else out


def _unpack_jit(packed: NDArray[np.int8], axis: int) -> NDArray[np.int8]:
    from . import kernels

    shape = list(packed.shape)
    shape[axis] *= 2
    before, size, after = _around(packed.shape, axis)
    source = np.ascontiguousarray(packed).view(np.uint8)
    q = np.empty(shape, np.int8)
    if after == 1:
        kernels.unpack_flat(source.reshape(-1), q.reshape(-1).view("<u2"))
    else:
        view = q.reshape(before, 2 * size, after).view(np.uint8)
        kernels.unpack_rows(source.reshape(before, size, after), view)
    return q

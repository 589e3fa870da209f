"""AWQ "gemm" int32 tensors, their Ascend form, and the way to W4A16 and back.

A weight [n, k] is stored transposed: codes [k, n] unsigned 0..15, eight along n in an int32, groups
of g consecutive k with scale s and zero point z:  x = (code - z) · s.

    AWQ      qweight [k, n/8] order 0,2,4,6,1,3,5,7   qzeros int32 [k/g, n/8]        scales [k/g, n]
    Ascend   qweight [k, n/8] order 0..7 ^ 0x88888888 qzeros fp16 [k/g, n] = 8 - z   scales [k/g, n]
    W4A16    weight int8 [n/2, k], q = code - 8       weight_offset [n, k/g] = z - 8 weight_scale
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .check import require_multiple, require_range
from .int4 import pack_int4, unpack_int4
from .words import PER_WORD, pack_words, unpack_words

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

_MIDDLE = 8  # unsigned code of the signed zero
_SIGN_BITS = np.int32(-2004318072)  # 0x88888888: flips the top bit of every nibble


class AwqWeight(NamedTuple):
    """qweight int32 [k, n/8], qzeros int32 [k/g, n/8], scales [k/g, n]."""

    qweight: NDArray[np.int32]
    qzeros: NDArray[np.int32]
    scales: NDArray


class AscendAwqWeight(NamedTuple):
    """qweight int32 [k, n/8], qzeros [k/g, n] = 8 - z in the dtype of scales, scales [k/g, n]."""

    qweight: NDArray[np.int32]
    qzeros: NDArray
    scales: NDArray


class W4A16Weight(NamedTuple):
    """weight int8 [n/2, k] row-paired, weight_scale and weight_offset [n, k/g], one dtype."""

    weight: NDArray[np.int8]
    weight_scale: NDArray
    weight_offset: NDArray


def pack_awq(codes: NDArray[np.uint8], name: str = "qweight") -> NDArray[np.int32]:
    """Pack the last axis in AWQ order. Arguments and errors as `words.pack_words`.

    Source: math.md 6.5; lmdeploy lite/quantization/modules/linear.py:89-134.
    """
    return pack_words(codes, AWQ_ORDER, name)


def unpack_awq(words: NDArray[np.int32], name: str = "qweight") -> NDArray[np.uint8]:
    """Undo `pack_awq`. Source: math.md 6.5; lmdeploy backends/default/awq_modules.py:12-34."""
    return unpack_words(words, AWQ_ORDER, name)


def pack_ascend(codes: NDArray[np.uint8], name: str = "qweight") -> NDArray[np.int32]:
    """Pack the last axis in sequence, top bits flipped: nibbles are code - 8, signed.

    Arguments and errors as `words.pack_words`. Source: math.md 6.6 (dlinfer ascend_awq.py).
    """
    return pack_words(codes, name=name) ^ _SIGN_BITS


def unpack_ascend(words: NDArray[np.int32], name: str = "qweight") -> NDArray[np.uint8]:
    """Undo `pack_ascend`: unsigned codes 0..15 again."""
    return unpack_words(words ^ _SIGN_BITS, name=name)


def require_shapes(weight: AwqWeight | AscendAwqWeight, zeros: tuple[int, ...]) -> None:
    """Refuse tensors that do not fit each other. Raises: ValueError naming what and the shapes."""
    k, n = weight.qweight.shape[0], weight.qweight.shape[1] * PER_WORD
    groups = weight.scales.shape[0]
    if weight.scales.shape[1:] != (n,) or zeros != (groups, n):
        raise ValueError(
            f"qweight [{k}, {n}/8] needs scales and zeros of [groups, {n}], "
            f"found {weight.scales.shape} and {zeros}"
        )
    require_multiple(k, groups, f"qweight: rows for {groups} groups")


def dequantize_awq(weight: AwqWeight) -> NDArray:
    """Return the float weight x = (code - z) · scale, transposed back.

    Args: weight, scales float16 or float32. Returns: [n, k] in the dtype of scales, one rounding.
    Raises: ValueError for shapes that do not fit. Source: math.md 6.5.
    """
    codes, zeros = unpack_awq(weight.qweight), unpack_awq(weight.qzeros, "qzeros")
    require_shapes(weight, zeros.shape)
    group = codes.shape[0] // weight.scales.shape[0]
    wide = codes.astype(np.float32) - np.repeat(zeros, group, axis=0).astype(np.float32)
    product = wide * np.repeat(weight.scales, group, axis=0).astype(np.float32)  # (k, n)
    return product.astype(weight.scales.dtype).T


def awq_to_ascend(weight: AwqWeight) -> AscendAwqWeight:
    """Repack in sequence with flipped top bits; zeros become floats 8 - z.

    Raises: ValueError for shapes that do not fit. Source: math.md 6.6.
    """
    zeros = unpack_awq(weight.qzeros, "qzeros")
    require_shapes(weight, zeros.shape)
    kernel_zeros = (_MIDDLE - zeros.astype(np.int8)).astype(weight.scales.dtype)
    return AscendAwqWeight(pack_ascend(unpack_awq(weight.qweight)), kernel_zeros, weight.scales)


def ascend_to_awq(weight: AscendAwqWeight) -> AwqWeight:
    """Undo `awq_to_ascend`. Raises: ValueError for shapes or zeros that do not fit."""
    require_shapes(weight, weight.qzeros.shape)
    zeros = pack_awq(_zero_codes(-weight.qzeros, "qzeros"), "qzeros")
    return AwqWeight(pack_awq(unpack_ascend(weight.qweight)), zeros, weight.scales)


def awq_to_w4a16(weight: AwqWeight) -> W4A16Weight:
    """Transpose, make codes signed and pair rows: q = code - 8, offset = z - 8, same x.

    Args: weight; n is even because 8 divides it. Returns: `W4A16Weight`, offsets in the dtype of
    scales. Raises: ValueError for shapes that do not fit. Source: math.md 6.2, 6.3, 6.5;
    formats.md 3.0.2 (sign of the offset).
    """
    codes, zeros = unpack_awq(weight.qweight), unpack_awq(weight.qzeros, "qzeros")
    require_shapes(weight, zeros.shape)
    signed = codes.T.view(np.int8) - np.int8(_MIDDLE)  # (n, k)
    offset = (zeros.T.astype(np.int8) - np.int8(_MIDDLE)).astype(weight.scales.dtype)
    return W4A16Weight(
        pack_int4(signed, axis=0),
        np.ascontiguousarray(weight.scales.T),
        np.ascontiguousarray(offset),
    )


def w4a16_to_awq(weight: W4A16Weight) -> AwqWeight:
    """Undo `awq_to_w4a16`.

    Args: weight; n a multiple of 8. Raises: ValueError if it is not, if an offset is no integer in
    [-8, 7] (AWQ cannot hold it), or if the shapes do not fit.
    """
    signed = unpack_int4(weight.weight, axis=0)  # (n, k)
    qweight = pack_awq((signed + np.int8(_MIDDLE)).view(np.uint8).T)
    zeros = _zero_codes(weight.weight_offset, "weight_offset")
    require_multiple(zeros.shape[0], PER_WORD, "weight_offset: rows")
    result = AwqWeight(
        qweight, pack_awq(zeros.T, "weight_offset"), np.ascontiguousarray(weight.weight_scale.T)
    )
    require_shapes(result, zeros.T.shape)
    return result


def _zero_codes(offset: NDArray, name: str) -> NDArray[np.uint8]:
    """Return the unsigned zero points z = offset + 8."""
    wide = offset.astype(np.float32)
    if (wide != np.trunc(wide)).any():
        at = tuple(int(i) for i in np.argwhere(wide != np.trunc(wide))[0])
        raise ValueError(f"{name}: {wide[at]} at index {at} is no integer")
    require_range(wide, -8, 7, name)
    return (wide + np.float32(_MIDDLE)).astype(np.uint8)

"""What can differ in the integer matmul and in nibble packing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.accumulate import narrow
from slimspec.numeric import mul

from .engine import Op

F32 = np.float32


def _float32_sum(x: NDArray, w: NDArray) -> NDArray[np.int32]:
    """Accumulate in float32 in increasing k: loses the low bits past 2^24."""
    total = np.zeros((x.shape[0], w.shape[0]), F32)
    for i in range(x.shape[0] if x.shape[1] else 0):
        products = mul(x[i].astype(F32), w.astype(F32), F32)  # (n, k)
        total[i] = np.add.accumulate(products, axis=1, dtype=F32)[:, -1]
    return narrow(total.astype(np.int64)).value


REGISTERS = {
    "int32 wraps": lambda x, w: narrow(x @ w.T).value,
    "saturates instead of wrapping": lambda x, w: narrow(x @ w.T, "saturate").value,
    "accumulated in float32": _float32_sum,
    "accumulated in int16": lambda x, w: (x @ w.T).astype(np.int16).astype(np.int32),
}
SIGNS = {
    "{} is signed": lambda a: a.astype(np.int64),
    "{} read as unsigned": lambda a: a.view(np.uint8).astype(np.int64),
    "{} with −128 replaced by −127": lambda a: np.maximum(a, -127).astype(np.int64),
}


def _matmul(c: dict[str, Any], x: NDArray, w: NDArray) -> NDArray[np.int32]:
    return c["register"](c["x"](x), c["w"](w))


MATMUL_INT8 = Op(
    "matmul_int8",
    {
        "register": REGISTERS,
        "x": {name.format("x"): f for name, f in SIGNS.items()},
        "w": {name.format("w"): f for name, f in SIGNS.items()},
    },
    _matmul,
)


def _pairs(q: NDArray, axis: int) -> tuple[NDArray, NDArray]:
    moved = np.moveaxis(q, axis, -1)
    return moved[..., 0::2], moved[..., 1::2]


def _pack(c: dict[str, Any], q: NDArray, axis: int = -1) -> NDArray[np.int8]:
    axis = c["axis"](axis, q.ndim)
    if q.shape[axis] % 2:
        return np.zeros((0,), np.int8)  # this variant cannot exist for the shape
    even, odd = _pairs((q.astype(np.int16) + c["code"]) & 15, axis)
    low, high = (odd, even) if c["nibble"] else (even, odd)
    packed = (low | high << 4).astype(np.uint8).view(np.int8)
    return np.ascontiguousarray(np.moveaxis(packed, -1, axis))


AXES = {
    "along the axis": lambda axis, ndim: axis % ndim,
    "along the other axis": lambda axis, ndim: (axis % ndim + 1) % ndim,
}
PACK_INT4 = Op(
    "pack_int4",
    {
        "nibble": {"even element in the low nibble": False, "nibbles swapped": True},
        "code": {"two's complement": 0, "offset binary (code + 8)": 8},
        "axis": AXES,
    },
    _pack,
)


def _unpack(c: dict[str, Any], packed: NDArray, axis: int = -1) -> NDArray[np.int8]:
    axis = c["axis"](axis, packed.ndim)
    byte = np.moveaxis(packed.view(np.uint8), axis, -1).astype(np.int16)
    halves = (byte >> 4, byte & 15) if c["nibble"] else (byte & 15, byte >> 4)
    codes = np.stack([c["code"](h) for h in halves], axis=-1)  # (..., k/2, 2)
    flat = codes.reshape(*byte.shape[:-1], 2 * byte.shape[-1])  # (..., k)
    return np.ascontiguousarray(np.moveaxis(flat.astype(np.int8), -1, axis))


UNPACK_INT4 = Op(
    "unpack_int4",
    {
        "nibble": {"low nibble first": False, "nibbles swapped": True},
        "code": {
            "two's complement": lambda h: (h ^ 8) - 8,
            "nibble not sign-extended": lambda h: h,
            "offset binary (code − 8)": lambda h: h - 8,
        },
        "axis": AXES,
    },
    _unpack,
)

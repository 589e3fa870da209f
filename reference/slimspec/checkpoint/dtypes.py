"""The dtype tags of safetensors headers: order, width, NumPy dtype.

Source: safetensors `Dtype` (safetensors/src/tensor.rs). The order of the table is the order that
the library sorts by (descending) when it writes a file, so it is part of the format in practice.
"""

from typing import Any

import numpy as np

# tag -> bits of one element, in the library's order
BITS: dict[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip

TAGS: tuple[str, ...] = tuple(BITS)
CODES: dict[str, int] = {tag: code for code, tag in enumerate(TAGS)}

_NUMPY = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16",
    "I32": "int32", "U32": "uint32", "F32": "float32", "C64": "complex64", "F64": "float64",
    "I64": "int64", "U64": "uint64",
}  # fmt: skip
_ML_DTYPES = {
    "BF16": "bfloat16", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip

_BY_NAME = {name: tag for tag, name in (_NUMPY | _ML_DTYPES).items()}


def numpy_dtype(tag: str) -> np.dtype[Any] | None:
    """Return the little-endian NumPy dtype of `tag`; None for the sub-byte tags.

    ml_dtypes is imported only for the 8-bit floats and bfloat16.
    """
    if tag in _NUMPY:
        return np.dtype(_NUMPY[tag]).newbyteorder("<")
    if tag in _ML_DTYPES:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, _ML_DTYPES[tag]))
    return None


def whole_dtype(tag: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a tag whose elements are whole bytes.

    Raises:
        ValueError: a sub-byte or unknown tag.
    """
    dtype = numpy_dtype(tag)
    if dtype is None:
        raise ValueError(f"dtype {tag}: expected one of whole bytes")
    return dtype


def tag_of(dtype: np.dtype[Any]) -> str | None:
    """Return the header tag of a NumPy (or ml_dtypes) dtype; None where the format has none."""
    return _BY_NAME.get(dtype.name)

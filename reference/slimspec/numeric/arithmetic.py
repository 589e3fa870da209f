"""Elementwise arithmetic in the model dtype, as torch does it on CPU.

Each single operation runs in float32 and its result is rounded once to the dtype, to nearest even
(math.md 1.8). A Python number is a float32 constant in products and quotients, but is first rounded
to the dtype in sums and differences.
"""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .bf16 import float32_to_bf16
from .fp16 import float32_to_fp16
from .jit import jit_pays

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
MODEL_DTYPES = (np.dtype(np.float32), np.dtype(np.float16), BFLOAT16)


def model_dtype(dtype: DTypeLike) -> np.dtype:
    """Return `dtype` if models come in it (float32, float16, bfloat16). Raises: TypeError."""
    found = np.dtype(dtype)
    if found not in MODEL_DTYPES:
        raise TypeError(f"expected float32, float16 or bfloat16, found {found}")
    return found


def _is_python_number(x: ArrayLike) -> bool:
    return isinstance(x, int | float) and not isinstance(x, np.generic)


def as_float32(x: ArrayLike) -> NDArray[np.float32]:
    """Widen to float32 without loss; a float32 array comes back itself, not a copy.

    Args: x array of float32, float16, bfloat16, or of integers up to 16 bits, or Python numbers
    (rounded once). Returns: float32. Raises: TypeError for float64 and wide integer arrays, which
    would lose bits silently.
    """
    array = np.asarray(x)
    python_number = _is_python_number(x)
    narrow_integer = array.dtype.kind in "iub" and array.dtype.itemsize <= 2
    if not (python_number or narrow_integer or array.dtype in MODEL_DTYPES):
        raise TypeError(f"{array.dtype} does not fit float32 without loss")
    if array.dtype.itemsize == 2 and not narrow_integer and jit_pays(array.size):
        from . import kernels

        return kernels.widen(array)
    return array.astype(np.float32, copy=False)


def to_dtype(x: ArrayLike, dtype: DTypeLike) -> NDArray:
    """Round float32 values once to `dtype`, to nearest even; overflow becomes inf.

    Args: x as for `as_float32`; dtype float32, float16 or bfloat16. Returns: array of `dtype`.
    Raises: TypeError for other dtypes. Source: math.md 1.8.
    """
    target = model_dtype(dtype)
    if isinstance(x, np.ndarray) and x.dtype == target:
        return x
    wide = as_float32(x)
    if target == np.float32:
        return wide
    if jit_pays(wide.size):
        from . import kernels

        return kernels.narrow(wide, target)
    bits = float32_to_fp16(wide) if target == np.float16 else float32_to_bf16(wide)
    return bits.view(target)


def _in_float32(op: Callable, x: ArrayLike, y: ArrayLike, dtype: DTypeLike) -> NDArray:
    target = model_dtype(dtype)
    with np.errstate(all="ignore"):  # torch gives inf and NaN in silence
        return to_dtype(np.asarray(op(as_float32(x), as_float32(y))), target)


def _term(x: ArrayLike, dtype: DTypeLike) -> ArrayLike:
    return to_dtype(x, dtype) if _is_python_number(x) else x


def add(x: ArrayLike, y: ArrayLike, dtype: DTypeLike) -> NDArray:
    """Return round_dtype(x + y), a Python number rounded to the dtype before.

    Arguments and errors as `to_dtype`; x and y broadcast. Source: pytorch
    aten/src/ATen/native/ufunc/add.h, whose operands are of the tensor's dtype.
    """
    return _in_float32(np.add, _term(x, dtype), _term(y, dtype), dtype)


def sub(x: ArrayLike, y: ArrayLike, dtype: DTypeLike) -> NDArray:
    """Return round_dtype(x - y), a Python number rounded to the dtype before. As `add`."""
    return _in_float32(np.subtract, _term(x, dtype), _term(y, dtype), dtype)


def mul(x: ArrayLike, y: ArrayLike, dtype: DTypeLike) -> NDArray:
    """Return round_dtype(x · y). Arguments and errors as `to_dtype`; x and y broadcast."""
    return _in_float32(np.multiply, x, y, dtype)


def div(x: ArrayLike, y: ArrayLike, dtype: DTypeLike) -> NDArray:
    """Return round_dtype(x / y). Arguments and errors as `to_dtype`; x and y broadcast."""
    return _in_float32(np.divide, x, y, dtype)


def log2(x: ArrayLike, dtype: DTypeLike) -> NDArray:
    """Return round_dtype(round_float32(log2 x)); 0 gives -inf, negative values NaN.

    The logarithm is taken in float64, whose error vanishes in the rounding to float32: the result
    is the nearest float32. Just below a power of two that is the power itself.
    Arguments and errors as `to_dtype`.
    """
    target = model_dtype(dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        return to_dtype(np.asarray(np.log2(as_float32(x).astype(float))).astype(np.float32), target)


def exp2(exponent: ArrayLike, dtype: DTypeLike) -> NDArray:
    """Return round_dtype(2^e) for integral e (±inf and NaN allowed), exact where dtype holds it.

    In float16, 2^-25 and less is 0 and 2^16 and more is inf. Arguments and errors as `to_dtype`;
    ValueError for an exponent that is no integer.
    """
    target = model_dtype(dtype)
    wide = as_float32(exponent).astype(float)
    if (np.isfinite(wide) & (wide != np.trunc(wide))).any():
        raise ValueError("exp2 is exact for integral exponents only")
    with np.errstate(over="ignore", under="ignore"):
        return to_dtype(np.asarray(np.exp2(wide)).astype(np.float32), target)

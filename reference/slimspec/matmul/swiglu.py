"""SwiGLU in float32: silu(a)·b with silu(v) = v·sigmoid(v).

    e = fl32(exp(−v));  s = fl32(1/fl32(1 + e));  silu = fl32(v·s);  out = fl32(silu·b)

Every step is float32. The exponential alone is evaluated in float64 and rounded once, because
float32 exponentials of different libraries differ in the last bit.

Source: integer_semantics.md B.9.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, mul

F32 = np.float32


def exp_float32(v: NDArray[np.float32]) -> NDArray[np.float32]:
    """fl32(e^v), evaluated in float64. Args: v (...) float32. Returns: float32, same shape."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.exp(v.astype(np.float64)).astype(F32)


def silu(v: NDArray) -> NDArray[np.float32]:
    """v·(1/(1 + e^−v)) in float32 steps. Args: v (...) float. Returns: float32, same shape."""
    wide = as_float32(v)
    sigmoid = div(1.0, add(1.0, exp_float32(-wide), F32), F32)
    return mul(wide, sigmoid, F32)


def swiglu(v: NDArray, activate_left: bool = True) -> NDArray[np.float32]:
    """silu(left half)·right half, or the halves exchanged.

    Args:
        v: (..., 2c) float.
        activate_left: silu acts on the first half.

    Returns:
        (..., c) float32.

    Raises:
        ValueError: the last axis is odd.
    """
    if v.shape[-1] % 2:
        raise ValueError(f"swiglu: expected an even last axis, found {v.shape}")
    left, right = np.split(as_float32(v), 2, axis=-1)  # (..., c) twice
    gate, value = (left, right) if activate_left else (right, left)
    return mul(silu(gate), value, F32)

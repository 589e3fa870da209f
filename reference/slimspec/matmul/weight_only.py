"""Weight-only matmul (W8A16, W4A16): dequantize the weight into the activations' dtype T.

    ŵ = (w + antiquant_offset)·scale        antiquant_offset = −offset of the checkpoint

| steps | formula | where |
|---|---|---|
| stepwise | T( T(w + o)·s ) | fp16 kernels; goldens for bf16 of newer chips |
| once | T( (fp32(w) + o)·s ) | bf16 kernel of the 910B |

s and o are rounded to T first. Then y = T( fl32(Σ x·ŵ) + fp32(bias) ).

Source: integer_semantics.md B.6; math.md 13.3.
"""

from typing import Literal

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import add, as_float32, mul, to_dtype

from .check import require
from .floating import matmul_float
from .profiles import Numerics, to_output

Steps = Literal["stepwise", "once"]
DEFAULT_STEPS: dict[np.dtype, Steps] = {
    np.dtype(np.float16): "stepwise",
    np.dtype(ml_dtypes.bfloat16): "once",
    np.dtype(np.float32): "once",
}


def antiquant(
    w: NDArray[np.int8],
    scale: NDArray,
    antiquant_offset: NDArray | None = None,
    dtype: DTypeLike = np.float16,
    steps: Steps | None = None,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """ŵ = T(T(w + antiquant_offset)·scale), or with one rounding.

    Args:
        w: (n, k) int8; int4 codes come one per int8.
        scale: (n,), (n, 1) per channel or (n, k/g) per group; any float dtype, rounded to T.
        antiquant_offset: as scale, or None for 0; the negated zero point.
        dtype: T: float16, bfloat16 or float32.
        steps: None takes the kernel's habit for T.
        numerics: profile name.

    Returns:
        (n, k) of dtype.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    require("w", w, (np.int8,), "(n, k)", 2)
    steps = steps or DEFAULT_STEPS[np.dtype(dtype)]
    if steps not in ("stepwise", "once"):
        raise ValueError(f'steps: expected "stepwise" or "once", found {steps!r}')
    inner = dtype if steps == "stepwise" else np.float32
    shifted = w
    if antiquant_offset is not None:
        offset = to_dtype(per_column("antiquant_offset", antiquant_offset, w.shape), dtype)
        shifted = to_output(add(w, offset, np.float32), inner, numerics)
    factor = to_dtype(per_column("scale", scale, w.shape), dtype)
    return to_output(mul(shifted, factor, np.float32), dtype, numerics)


def per_column(name: str, values: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Spread (n,), (n, 1) or (n, k/g) parameters over the columns: (n, 1) or (n, k).

    Raises:
        ValueError: the rows differ, or the groups do not divide k.
    """
    n, k = shape
    rows = values.reshape(-1, 1) if values.ndim < 2 else values  # (n, groups)
    if rows.ndim != 2 or rows.shape[0] not in (1, n) or rows.shape[1] == 0 or k % rows.shape[1]:
        raise ValueError(f"{name}: expected (n,), (n, 1) or (n, k/g) for n={n} and k={k}, "
                         f"found {values.shape}")  # fmt: skip
    return rows if rows.shape[1] == 1 else np.repeat(rows, k // rows.shape[1], axis=1)


def matmul_weight_only(
    x: NDArray,
    w: NDArray[np.int8],
    scale: NDArray,
    antiquant_offset: NDArray | None = None,
    bias: NDArray | None = None,
    steps: Steps | None = None,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """y = T(fl32(Σ_k x·ŵ) + bias) with ŵ from `antiquant` in the dtype T of x.

    Args:
        x: (m, k) float16, bfloat16 or float32.
        w, scale, antiquant_offset, steps: as `antiquant`.
        bias: (n,) float, added in float32, or None.
        numerics: profile name.

    Returns:
        (m, n) of x's dtype.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    y = matmul_float(x, antiquant(w, scale, antiquant_offset, x.dtype, steps, numerics))
    if bias is not None:
        y = add(y, as_float32(bias), np.float32)
    return to_output(y, x.dtype, numerics)

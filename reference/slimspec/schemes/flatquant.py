"""FlatQuant: a learned Kronecker transform in front of a quantized linear (*_FLATQUANT labels).

A row of k = L·R values is read as a matrix [L, R]:

    x' = leftᵀ · x · right          w' = left⁻¹ · w · right⁻ᵀ          <x', w'> = <x, w>
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, mul, to_dtype

from .base import register_wrapper
from .forward import float_product
from .records import QuantizedLinear
from .wrapper import Wrapper


def transform_input(x: NDArray, left: NDArray, right: NDArray | None) -> NDArray:
    """Return x' = leftᵀ · x · right; the right product first, each rounded to the dtype T of x.

    Without `right` only the left one is applied: the other acts inside the attention.
    Args: x [m, k] in T; left [L, L]; right [R, R] or None; matrices are rounded to T first.
    Returns: [m, k] in T. Raises: ValueError if L·R is not k.
    Source: msmodelslim ir/flatquant.py:98-125.
    """
    shape = factors(x.shape[-1], left, right)
    y = x.reshape(-1, *shape)  # (m, L, R)
    if right is not None:
        y = _times(y, to_dtype(right, x.dtype))
    turned = _times(y.transpose(0, 2, 1), to_dtype(left, x.dtype))  # (m, R, L)
    return turned.transpose(0, 2, 1).reshape(x.shape)


def _times(y: NDArray, matrix: NDArray) -> NDArray:
    """Return y · matrix [..., R, R'], rounded once to the dtype of y. Args: y [m, L, R]."""
    rows = float_product(y.reshape(-1, y.shape[2]), matrix.T)  # (m · L, R')
    return rows.reshape(*y.shape[:2], -1)


def transform_weight(w: NDArray, left: NDArray, right: NDArray | None) -> NDArray[np.float64]:
    """Return w' = left⁻¹ · w · right⁻ᵀ in float64; the producer rounds it to the dtype of w.

    Args: w [n, k]; left [L, L]; right [R, R] or None. Raises: ValueError if L·R is not k or a
    matrix cannot be inverted.
    Source: msmodelslim flat_quant_utils/{flat_fake_quant_linear.py:179-203,trans_matrix.py:52-68}.
    """
    y = as_float32(w).astype(np.float64).reshape(-1, *factors(w.shape[1], left, right))
    if right is not None:
        y = y @ inverse(right, "right_trans").T
    return (inverse(left, "left_trans") @ y).reshape(w.shape)


def inverse(matrix: NDArray, name: str) -> NDArray[np.float64]:
    """Return the inverse in float64. Raises: ValueError naming a singular matrix."""
    try:
        found = np.linalg.inv(as_float32(matrix).astype(np.float64))
    except np.linalg.LinAlgError:
        raise ValueError(f"{name} cannot be inverted") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{name} cannot be inverted")
    return found


def factors(k: int, left: NDArray, right: NDArray | None) -> tuple[int, int]:
    """Return L, R. Raises: ValueError if the matrices are not square or L·R is not k."""
    for name, matrix in (("left_trans", left), ("right_trans", right)):
        if matrix is not None and (matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]):
            raise ValueError(f"{name} {matrix.shape}: expected a square matrix")
    rows = left.shape[0]
    columns = k // rows if right is None and rows and k % rows == 0 else 0
    columns = columns if right is None else right.shape[0]
    if not rows or rows * columns != k:
        raise ValueError(f"{k} columns are not left {rows} x right {columns}")
    return rows, columns


def clip_tokens(x: NDArray, ratio: NDArray) -> NDArray:
    """Clip each token to ratio times its extremes, zero included; in the dtype T of x.

    Args: x [m, k] in T; ratio [1] or 0-d, the stored one (after the sigmoid). Returns: T.
    The producer's wrapper takes the sigmoid of the stored ratio once more when it simulates, the
    device kernel shrinks the scale instead of clipping; the stored value is what engines read.
    Source: formats.md 3.2 FLATQUANT; msmodelslim ir/flatquant.py:75-96; math.md 11.2.
    """
    factor = to_dtype(ratio, x.dtype).reshape(())
    wide = as_float32(x)
    high = to_dtype(np.maximum(wide.max(axis=1, keepdims=True), np.float32(0)), x.dtype)
    low = to_dtype(np.minimum(wide.min(axis=1, keepdims=True), np.float32(0)), x.dtype)
    low, high = mul(low, factor, x.dtype), mul(high, factor, x.dtype)
    return to_dtype(np.clip(wide, as_float32(low), as_float32(high)), x.dtype)


@register_wrapper("FLATQUANT")
class FlatQuant(Wrapper):
    """left_trans [L, L], right_trans [R, R], clip_ratio [1] beside the tensors of `inner`.

    y = inner.forward(clip(x')), ŵ = left · ŵ' · rightᵀ.
    Source: math.md 11.2; formats.md 3.2 W4A4_DYNAMIC / FLATQUANT.
    """

    required: ClassVar[tuple[str, ...]] = ("left_trans",)
    optional: ClassVar[tuple[str, ...]] = ("right_trans", "clip_ratio")

    def change_weight(self, w: NDArray, parts: Mapping[str, NDArray]) -> NDArray:
        """Return w' in the dtype of w."""
        changed = transform_weight(w, parts["left_trans"], parts.get("right_trans"))
        return to_dtype(changed.astype(np.float32), w.dtype)

    def change_input(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return x', clipped if there is a ratio: what `inner` quantizes, and what it observes."""
        changed = transform_input(x, q.need("left_trans"), q.right_trans)
        return changed if q.clip_ratio is None else clip_tokens(changed, q.clip_ratio)

    def restore_weight(self, w: NDArray[np.float32], q: QuantizedLinear) -> NDArray[np.float32]:
        """Return left · w · rightᵀ in float32."""
        left, right = q.need("left_trans"), q.right_trans
        y = w.reshape(-1, *factors(w.shape[1], left, right))  # (n, L, R)
        if right is not None:
            y = y @ as_float32(right).T
        return (as_float32(left) @ y).reshape(w.shape)

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""
        return self.inner.forward(self.unwrap(q), self.change_input(q, x))

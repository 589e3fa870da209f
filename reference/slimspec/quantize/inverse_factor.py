"""The factor of an inverse, without the inverse: U upper triangular with UᵀU = H⁻¹.

    H = TᵀT, T lower triangular, from the last row up:
        T_pp = √a_pp;  T_pc = a_pc / T_pp;  a_ic -= T_pi·T_pc  for i, c < p     (a = H at first)
    V = T⁻¹, from the first row down:
        V_pc = b_pc / T_pp;  b_ic -= T_ip·V_pc  for i > p, c <= p               (b = I at first)
    U = Vᵀ, for H⁻¹ = V·Vᵀ

Float64, one operation after the other in this order for every element, nothing fused: the same bits
on any machine with any number of threads. A library's Cholesky (numpy's LAPACK) gives other last
bits with another number of threads from 128 inputs on.

Source: Golub and Van Loan, Matrix Computations, 4.2.5 (outer product form), 3.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.jit import jit_pays

Matrix = NDArray[np.float64]


def inverse_root(h: Matrix) -> Matrix:
    """Return U [k, k]. Args: h [k, k], symmetric. Raises: ValueError: not positive definite."""
    a = np.array(h, np.float64, order="C")
    t, v = np.zeros_like(a), np.eye(len(a))
    if jit_pays(a.size):
        from . import factor_kernels

        done = factor_kernels.factor(a, t)
        if done:
            factor_kernels.invert(t, v)
    else:
        done = _factor(a, t)
        if done:
            _invert(t, v)
    if not done:
        raise ValueError(f"Hessian of {len(a)} inputs is not positive definite")
    return np.ascontiguousarray(v.T)


def _factor(a: Matrix, t: Matrix) -> bool:
    """Fill t with the lower T of a = TᵀT; `a` is used up. Returns: False for a pivot not > 0."""
    for p in reversed(range(len(a))):
        if not a[p, p] > 0:  # False for NaN too
            return False
        t[p, p] = np.sqrt(a[p, p])
        t[p, :p] = a[p, :p] / t[p, p]
        a[:p, :p] -= t[p, :p, None] * t[p, :p]
    return True


def _invert(t: Matrix, v: Matrix) -> None:
    """Turn v, the identity, into the inverse of the lower t."""
    for p in range(len(t)):
        v[p, : p + 1] /= t[p, p]
        v[p + 1 :, : p + 1] -= t[p + 1 :, p, None] * v[p, : p + 1]

"""W16A16S: prune a float weight by ADMM against the calibration inputs, then thin its mantissas.

    min ‖X·(W - W̃)ᵀ‖²  over W̃ with int(ratio · n · k) zeros

alternates a ridge solution and a projection onto the sparse set; U carries what the projection
lost. Columns are scaled to unit energy first.

Source: facts/math.md 7.3 (msmodelslim/processor/sparse/admm.py:175-279).
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, model_dtype, to_dtype
from slimspec.quantize.affine import require_finite
from slimspec.sparse.mantissa import Float16, reduce_mantissa

Float32 = NDArray[np.float32]
ROUNDS = 20
PRUNING_ROUNDS = 15  # the mask is chosen anew in these, then stays
DAMPING = np.float32(0.1)
PENALTY = np.float32(1)
KEPT_SHARE = 0.02  # weights whose mantissa is left alone
DEFAULT_RATIO = 0.3


class InputStatistics:
    """What calibration leaves: H = Σ xᵀx, and per column a running mean of ‖x‖² over samples."""

    def __init__(self, columns: int) -> None:
        self.hessian: Float32 = np.zeros((columns, columns), np.float32)
        self.energy: Float32 = np.zeros(columns, np.float32)
        self.samples = 0

    def add(self, x: NDArray) -> None:
        """Add a batch.

        energy <- energy · N / (N + b) + ‖column‖² / (N + b),  N <- N + b,  b samples in the batch

        Args: x [b, t, k] or [t, k] (one sample), float32, float16 or bfloat16.
        Raises: ValueError for another number of columns, NaN or infinity.
        """
        columns = self.energy.size
        if x.ndim not in (2, 3) or x.shape[-1] != columns or 0 in x.shape:
            raise ValueError(f"inputs are {list(x.shape)}, expected [b, t, {columns}]")
        require_finite(x, "inputs")
        batch = x.shape[0] if x.ndim == 3 else 1
        rows = as_float32(x).reshape(-1, columns)
        self.hessian += rows.T @ rows
        self.energy *= np.float32(self.samples / (self.samples + batch))
        self.samples += batch
        norm = np.sqrt((rows * rows).sum(axis=0, dtype=np.float32))
        self.energy += norm * norm / np.float32(self.samples)


def prune_admm(w: NDArray, statistics: InputStatistics, ratio: float = DEFAULT_RATIO) -> NDArray:
    """Return w with int(ratio · n · k) zeros and the other weights moved to compensate.

    norm = sqrt(diag H) + 1e-8;  H <- H / norm / normᵀ;  W̃ = (w · norm)ᵀ;  diag H += 0.1 · mean
    repeat 20×:  Z = (W̃ + U)·mask;  U += W̃ - Z;  W̃ = (H + I)⁻¹ (H·W + Z - U)
    result ((W̃ + U)·mask)ᵀ / norm

    Args: w [n, k] float32, float16 or bfloat16; ratio in [0, 1).
    Returns: dtype of w. Arithmetic is float32; the inverse depends on the library's order, and the
    producer's square roots are now and then not the nearest. With both of them from torch, what is
    pruned is the same in every round of a recorded run (measured).
    Raises: ValueError for NaN, infinity, ratio, or statistics of another width or of no input.
    Source: math.md 7.3.
    """
    dtype = model_dtype(w.dtype)
    require_finite(w, "weight")
    _check(w, statistics, ratio)
    hessian = statistics.hessian
    norm = np.sqrt(np.diag(hessian)) + np.float32(1e-8)
    hessian = hessian / norm / norm[:, None]
    diagonal = np.arange(norm.size)
    start = (as_float32(w) * norm).T  # (k, n)
    hessian[diagonal, diagonal] += DAMPING * hessian.diagonal().mean(dtype=np.float32)
    target = hessian @ start
    hessian[diagonal, diagonal] += PENALTY
    solved = _alternate(start, target, np.linalg.inv(hessian), int(w.size * ratio))
    return to_dtype(solved.T / norm, dtype)


def w16a16s_weight(
    w: NDArray, statistics: InputStatistics, ratio: float = DEFAULT_RATIO
) -> NDArray:
    """Return the weight that W16A16S stores: pruned, then mantissas of two bits but for 2 %.

    kept: the int(0.02 · n · k) weights, at least one, of largest |w̃ - reduced(w̃)| · sqrt(energy);
    ties are kept too

    Args and Raises: as `prune_admm`. Returns: dtype of w, values of float16. Source: math.md 7.3.
    """
    pruned = prune_admm(w, statistics, ratio)
    half = as_float32(to_dtype(as_float32(pruned), np.float16))
    return to_dtype(as_float32(_thin(half, statistics.energy)), w.dtype)


def _thin(half: Float32, energy: Float32) -> Float16:
    lost = np.abs(half - as_float32(reduce_mantissa(half)))
    importance = (lost * np.sqrt(energy)).astype(np.float32)
    place = importance.size - 1 - int(KEPT_SHARE * importance.size - 1)
    threshold = np.partition(importance.reshape(-1), place)[place]
    return reduce_mantissa(half, importance >= threshold)


def _alternate(start: Float32, target: Float32, inverse: Float32, zeros: int) -> Float32:
    weight, dual = start, np.zeros_like(start)
    keep = np.ones_like(start)
    for round_number in range(ROUNDS):
        if round_number < PRUNING_ROUNDS:
            keep = _keep_largest(weight + dual, zeros)
        sparse = (weight + dual) * keep
        dual = dual + (weight - sparse)
        weight = inverse @ (target + PENALTY * (sparse - dual))
    return (weight + dual) * keep


def _keep_largest(x: Float32, zeros: int) -> Float32:
    keep = np.ones(x.size, np.float32)
    keep[np.argsort(np.abs(x), axis=None, kind="stable")[:zeros]] = 0
    return keep.reshape(x.shape)


def _check(w: NDArray, statistics: InputStatistics, ratio: float) -> None:
    if w.ndim != 2 or w.shape[1] != statistics.energy.size:
        columns = statistics.energy.size
        raise ValueError(f"weight is {list(w.shape)}, expected [n, {columns}] as the inputs")
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio: expected 0 <= ratio < 1, found {ratio}")
    if statistics.samples == 0:
        raise ValueError("no calibration input was added")

"""Magnitude pruning: the smallest weights become zero.

Source: seeds 003 (weight sparsification, default sparsity 0.012); facts/math.md 7.5, 14.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32
from slimspec.quantize.affine import require_finite

DEFAULT_SPARSITY = 0.012


def prune_smallest(w: NDArray, sparsity: float = DEFAULT_SPARSITY) -> NDArray:
    """Return a copy with the int(size · sparsity) weights of smallest magnitude set to zero.

    The seed's helper works in place through a flat view, so it changes its argument and fails on
    anything not contiguous; this one does neither. Of equal magnitudes the first in row-major order
    goes first.
    Args: w float32, float16 or bfloat16, any shape and strides; sparsity in [0, 1].
    Returns: same dtype and shape, contiguous. Raises: ValueError for NaN, infinity or sparsity.
    Source: math.md 7.5.
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity: expected 0 to 1, found {sparsity}")
    require_finite(w, "weight")
    pruned = np.array(w, order="C")
    flat = pruned.reshape(-1)
    order = np.argsort(np.abs(as_float32(flat)), kind="stable")
    flat[order[: int(flat.size * sparsity)]] = 0
    return pruned

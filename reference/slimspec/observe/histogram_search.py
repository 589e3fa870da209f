"""The search for the clipped range of a histogram with the smallest expected error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.reduction import cascade_sum

from .histogram_error import l2_error, next_candidate

Clip = tuple[int, int]


def search_clip(
    counts: NDArray[np.float32],
    low: np.float32,
    high: np.float32,
    best: float,
    swapped: bool = False,
) -> Clip:
    """Return the clip (first bin, last bin) that the greedy quantile search stops at.

    Candidates narrow the clip step by step; the search ends at the first one with a larger error.
    Args: counts [bins] float32; low, high: observed range; best: error that the first candidate
    may not exceed (inf in V0); swapped: see `histogram_error.next_candidate`.
    Returns: (first, last).
    Source: math.md 2.2.
    """
    error, advance = _routines()
    cumulative = np.cumsum(counts, dtype=np.float64).astype(np.float32)  # torch adds in double
    total = float(cascade_sum(counts))
    alpha, beta, first, last = 0.0, 1.0, 0, counts.shape[0] - 1
    while True:
        alpha, beta, begin, end = advance(cumulative, total, alpha, beta, first, last, swapped)
        if (begin, end) == (first, last):
            return first, last
        candidate = error(counts, low, high, begin, end)
        if candidate > best:
            return first, last
        best, first, last = candidate, begin, end


def _routines() -> tuple[Callable[..., float], Callable[..., tuple[float, float, int, int]]]:
    """Return error and advance, jitted where jitting is on; the bits are the same."""
    from . import kernels

    if kernels.JIT:
        return kernels.l2_error, kernels.next_candidate
    return l2_error, next_candidate

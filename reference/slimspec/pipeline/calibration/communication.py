"""The quantized sum of a row-parallel linear over simulated ranks, while texts pass by.

    rank r:  y_r = x_r·w_rᵀ of its own W8A8 linear, x_r and w_r a slice of the columns
    reduce:  ŷ_r = Q(y_r; max|y| / 127) per output channel, of this rank or of all
    gather:  y   = Q(Σ_r ŷ_r; max|Σ ŷ| / 127)

A run rounds with the maxima of the text at hand; the stored scales are those of all texts. Every
step is rounded to the model dtype.

Source: math.md 4.4 (which scales a run uses is not said there: measured on a recorded run).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.numeric import add, as_float32, div, mul, round_half_even
from slimspec.schemes import Linear

PEAK = 127
GATHER, REDUCE = "gather_scale", "reduce_scale"
SHARD = ".tp_list."  # between the name of a linear and the number of a rank


@dataclass(frozen=True)
class Parallel:
    """The simulated devices.

    Attributes:
        ranks: number of devices.
        per_device: each device has its own reduce_scale.
        quantized: what ranks send is quantized, else they send it as it is.
    """

    ranks: int
    per_device: bool = False
    quantized: bool = True

    def cuts(self, linear: Linear) -> list[Linear]:
        """Return the linear of each rank: a slice of the columns.

        The first rank has the bias. Raises: CheckpointError: columns that do not divide.
        """
        k = linear.weight.shape[1]
        if k % self.ranks:
            raise CheckpointError(
                f"{linear.name}: found {k} columns, expected a multiple of tp_size "
                f"{self.ranks}; leave it float with disable_names or change tp_size"
            )
        parts = np.split(linear.weight, self.ranks, axis=1)  # (n, k / ranks) each
        return [
            Linear(np.ascontiguousarray(w), None if i else linear.bias, f"{linear.name}{SHARD}{i}")
            for i, w in enumerate(parts)
        ]


class Communication:
    """What the ranks of one linear send."""

    def __init__(self, parallel: Parallel) -> None:
        self.parallel = parallel
        self.ranks, self.per_device = parallel.ranks, parallel.per_device
        self._peaks: dict[str, NDArray] = {}  # suffix -> largest magnitude so far, (n,)

    def __call__(self, partial: Sequence[NDArray]) -> NDArray:
        """Return the sum as it arrives. Args: partial: (t, n) of T per rank. Returns: (t, n)."""
        if not self.parallel.quantized:
            return _total(partial)
        peaks = [np.abs(y).max(axis=0) for y in partial]  # (n,) each
        if not self.per_device:
            peaks = [reduce(np.maximum, peaks)] * self.ranks
        for rank, peak in enumerate(peaks if self.per_device else peaks[:1]):
            self._see(f"{REDUCE}.{rank}" if self.per_device else REDUCE, peak)
        sent = [fake(y, peak) for y, peak in zip(partial, peaks, strict=True)]
        total = _total(sent)
        peak = np.abs(total).max(axis=0)
        self._see(GATHER, peak)
        return fake(total, peak)

    def _see(self, suffix: str, peak: NDArray) -> None:
        self._peaks[suffix] = np.maximum(self._peaks.get(suffix, peak), peak)

    def scales(self) -> dict[str, NDArray]:
        """suffix -> scale [n] of T; empty before the first text and for unquantized sums."""
        return {suffix: _scale(peak) for suffix, peak in self._peaks.items()}


def _total(partial: Sequence[NDArray]) -> NDArray:
    """Add rank by rank, rounded to T each time."""
    return reduce(lambda a, b: add(a, b, a.dtype), partial)


def _scale(peak: NDArray) -> NDArray:
    """max / 127 in its dtype."""
    return div(peak, PEAK, peak.dtype)


def fake(y: NDArray, peak: NDArray) -> NDArray:
    """clip(rint(y / s), ±127)·s with s = peak / 127; a channel of zeros stays zero.

    Args: y (t, n) of T, peak (n,) of T. Returns: (t, n) of T.
    """
    scale = _scale(peak)
    used = np.where(scale == 0, np.ones_like(scale), scale)
    q = np.clip(round_half_even(as_float32(div(y, used, y.dtype))), -PEAK, PEAK)
    return mul(q.astype(y.dtype), used, y.dtype)

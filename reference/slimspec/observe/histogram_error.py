"""Expected squared error of quantizing a histogram with a clipped range, and the next clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import round_floor
from slimspec.numeric.reduction import cascade_sum

LEVELS = 256  # int8
STEP = 1e-5  # quantile step of the search


def floor_division(x: NDArray[np.float32], y: np.float32) -> NDArray[np.float32]:
    """Return floor(x / y) as torch computes it: from the exact remainder, each step in float32.

    m = fmod(x, y); d = (x - m)/y, minus 1 where m and y differ in sign; floor(d), plus 1 where
    d - floor(d) > 1/2. Source: math.md 2.2 (at::div_floor).
    """
    one, half, zero = np.float32(1), np.float32(0.5), np.float32(0)
    with np.errstate(all="ignore"):
        m = np.fmod(x, y)
        d = (x - m) / y
        d = np.where((m != zero) & ((y < zero) != (m < zero)), d - one, d)
        whole = round_floor(d)
        return np.where(d - whole > half, whole + one, whole)


def l2_error(
    counts: NDArray[np.float32], low: np.float32, high: np.float32, first: int, last: int
) -> float:
    """Return the squared error when bins first..last are mapped to 256 levels.

    Values are uniform within a bin. Each source bin contributes the integral of its distance to
    the centres of the level of its left edge, of the levels between, and of that of its right
    edge; N(u, v) = density·(v³ - u³)/3. float32 throughout, widths in float64.
    Args: counts [bins] float32; low, high: observed range; first, last: the kept bins.
    Returns: error. Source: math.md 2.2; torch.ao.quantization.observer.HistogramObserver.
    """
    bins = counts.shape[0]
    bin_width = float(high) / bins - float(low) / bins
    level_width = bin_width * (last - first + 1) / LEVELS
    if level_width == 0.0:
        return 0.0
    with np.errstate(all="ignore"):
        return float(cascade_sum(_contributions(counts, bin_width, level_width, first)))


def _contributions(
    counts: NDArray[np.float32], bin_width: float, level_width: float, first: int
) -> NDArray[np.float32]:
    """Return the error of every source bin, [bins] float32."""
    width, level, half = np.float32(bin_width), np.float32(level_width), np.float32(level_width / 2)
    begin = (np.arange(counts.shape[0]) - first).astype(np.float32) * width
    end = begin + width
    top = np.float32(LEVELS - 1)
    level_begin = np.clip(floor_division(begin, level), np.float32(0), top)
    level_end = np.clip(floor_division(end, level), np.float32(0), top)
    density = counts / width

    def norm(u: NDArray | np.float32, v: NDArray | np.float32) -> NDArray[np.float32]:
        return density * ((v * v * v - u * u * u) / np.float32(3))

    error = norm(begin - (level_begin + np.float32(0.5)) * level, half)
    error = error + (level_end - level_begin - np.float32(1)) * norm(-half, half)
    return error + norm(-half, end - (level_end * level + half))


def next_candidate(
    cumulative: NDArray[np.float32],
    total: float,
    alpha: float,
    beta: float,
    first: int,
    last: int,
    swapped: bool,
) -> tuple[float, float, int, int]:
    """Advance the quantiles alpha, beta by 1e-5 until the clip (first, last) changes.

    Per step: l = the first bin with cumulative >= (alpha + step)·total, r the last one with
    cumulative <= (beta - step)·total; the end that moves further is taken. `swapped` reproduces
    the release that compares the distances the wrong way and assigns l to the end, r to the start.
    Args: cumulative [bins] float32; total. Returns: alpha, beta, first, last; an unchanged clip
    means that alpha met beta. Source: math.md 2.2 and 2.5.
    """
    while alpha < beta:
        next_alpha, next_beta = alpha + STEP, beta - STEP
        low_count, high_count = np.float32(next_alpha * total), np.float32(next_beta * total)
        left, right = first, last
        while left < last and cumulative[left] < low_count:
            left += 1
        while right > first and cumulative[right] > high_count:
            right -= 1
        begin, end = first, last
        if swapped:
            if right - first > last - left:
                end, beta = left, next_beta
            else:
                begin, alpha = right, next_alpha
        elif left - first > last - right:
            begin, alpha = left, next_alpha
        else:
            end, beta = right, next_beta
        if begin != first or end != last:
            return alpha, beta, begin, end
    return alpha, beta, first, last

"""The largest scores of each row, with the choice among equal ones that torch makes on a CPU.

Equal scores happen: router logits of a 16-bit model have few values. `torch.topk` moves the largest
to the front by quickselect, so which of the equal ones are in front depends on all scores:

    while more than 3 are left: pivot = median of second, middle and last, to the front;
        partition the rest around it, both sides stop at equal ones; go on with the part of place k
    sort what is left

Source: pytorch aten/src/ATen/native/TopKImpl.h (topk_impl_loop; for fewer than 64 times as many
scores as are asked for); the nth_element of the C++ library that torch is built with, whose choices
were checked against torch 2.13.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEFT = 3  # so many are sorted directly


def largest(x: NDArray, count: int) -> NDArray[np.int64]:
    """Return the indices of the largest of each row, best first.

    Args: x float (t, n) without NaN; count <= n. Returns: int64 (t, count).
    """
    order = np.argsort(-x, axis=1, kind="stable")
    chosen = order[:, :count].copy()
    if 0 < count < x.shape[1]:
        last, next_one = (np.take_along_axis(x, order[:, c : c + 1], 1) for c in (count - 1, count))
        for row in np.flatnonzero(last == next_one):
            chosen[row] = select(x[row].tolist(), count)
    return chosen


def select(scores: list[float], count: int) -> list[int]:
    """Return the indices of the `count` largest scores, best first, by quickselect; 1 <= count."""
    items, nth = list(range(len(scores))), count - 1
    first, last = 0, len(items)
    while last - first > LEFT:
        cut = _partition(items, scores, first, last)
        first, last = (cut, last) if cut <= nth else (first, cut)
    items[first:last] = sorted(items[first:last], key=lambda i: -scores[i])
    return sorted(items[:count], key=lambda i: -scores[i])


def _partition(items: list[int], scores: list[float], first: int, last: int) -> int:
    """Bring larger scores in front of the pivot's; return where the others begin."""
    places = first + 1, first + (last - first) // 2, last - 1
    median = _median([scores[items[p]] for p in places])
    middle = places[median]
    items[first], items[middle] = items[middle], items[first]
    pivot = scores[items[first]]
    left, right = first + 1, last
    while True:
        while scores[items[left]] > pivot:
            left += 1
        right -= 1
        while pivot > scores[items[right]]:
            right -= 1
        if left >= right:
            return left
        items[left], items[right] = items[right], items[left]
        left += 1


def _median(three: list[float]) -> int:
    """Which of three is the median; of equal ones the one that these comparisons end at."""
    a, b, c = three
    if a > b:
        return 1 if b > c else 2 if a > c else 0
    return 0 if a > c else 2 if b > c else 1

"""An unstable introsort whose order of equal elements is part of its contract.

Quicksort on the median of three while more than 16 elements remain, heapsort when the depth
limit 2·floor(log2 n) is spent, one insertion sort over the whole at the end.

Source: facts/sparse_codec.md 4 (parameters of the sort behind the vendor's dictionary).
"""

from collections.abc import Callable

THRESHOLD = 16

Before = Callable[[int, int], bool]


def introsort(items: list[int], before: Before) -> None:
    """Sort `items` in place so that no element stands after one it is `before`.

    Args:
        items: any elements.
        before: strict weak order, `before(a, b)` = a belongs in front of b.

    Source: facts/sparse_codec.md 4.
    """
    if not items:
        return
    _partition_down(items, 0, len(items), 2 * (len(items).bit_length() - 1), before)
    for at in range(1, len(items)):
        # The first THRESHOLD elements may need the very front; after them a smaller guard exists.
        if at < THRESHOLD and before(items[at], items[0]):
            items.insert(0, items.pop(at))
        else:
            _sink_left(items, at, before)


def _sink_left(items: list[int], at: int, before: Before) -> None:
    item = items[at]
    while before(item, items[at - 1]):
        items[at] = items[at - 1]
        at -= 1
    items[at] = item


def _partition_down(items: list[int], first: int, last: int, depth: int, before: Before) -> None:
    while last - first > THRESHOLD:
        if depth == 0:
            _heapsort(items, first, last, before)
            return
        depth -= 1
        cut = _partition(items, first, last, before)
        _partition_down(items, cut, last, depth, before)
        last = cut


def _partition(items: list[int], first: int, last: int, before: Before) -> int:
    median = _median(items, first + 1, first + (last - first) // 2, last - 1, before)
    items[first], items[median] = items[median], items[first]
    pivot = items[first]
    left, right = first + 1, last
    while True:
        while before(items[left], pivot):
            left += 1
        right -= 1
        while before(pivot, items[right]):
            right -= 1
        if left >= right:
            return left
        items[left], items[right] = items[right], items[left]
        left += 1


def _median(items: list[int], a: int, b: int, c: int, before: Before) -> int:
    if before(items[a], items[b]):
        if before(items[b], items[c]):
            return b
        return c if before(items[a], items[c]) else a
    if before(items[a], items[c]):
        return a
    return c if before(items[b], items[c]) else b


def _heapsort(items: list[int], first: int, last: int, before: Before) -> None:
    size = last - first
    heap = items[first:last]
    for parent in range((size - 2) // 2, -1, -1):
        _settle(heap, parent, size, heap[parent], before)
    for end in range(size - 1, 0, -1):
        item, heap[end] = heap[end], heap[0]
        _settle(heap, 0, end, item, before)
    items[first:last] = heap


def _settle(heap: list[int], hole: int, size: int, item: int, before: Before) -> None:
    """Move the hole down to a leaf along the later children, then `item` up from there."""
    top = hole
    while (child := 2 * hole + 2) < size:
        if before(heap[child], heap[child - 1]):
            child -= 1
        heap[hole] = heap[child]
        hole = child
    if child == size:  # a last parent with one child only
        heap[hole] = heap[child - 1]
        hole = child - 1
    while hole > top and before(heap[(hole - 1) // 2], item):
        heap[hole] = heap[(hole - 1) // 2]
        hole = (hole - 1) // 2
    heap[hole] = item

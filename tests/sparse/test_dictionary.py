"""The order of the dictionary: a sort by count, with ties as a real introsort leaves them."""

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.sparse.dictionary import ranking
from slimspec.sparse.introsort import introsort

histograms = st.lists(st.integers(0, 5), min_size=256, max_size=256)


@given(histograms, st.sampled_from(["libstdcxx", "value"]))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_ranking_is_a_permutation_by_descending_count(counts: list[int], order: str) -> None:
    ranked = ranking(np.array(counts, np.int64), order)
    assert sorted(ranked) == list(range(256))
    assert [counts[value] for value in ranked] == sorted(counts, reverse=True)


@given(histograms)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_value_order_breaks_ties_by_ascending_value(counts: list[int]) -> None:
    expected = sorted(range(256), key=lambda value: (-counts[value], value))
    assert list(ranking(np.array(counts, np.int64), "value")) == expected


def test_distinct_counts_leave_no_choice() -> None:
    counts = np.random.default_rng(5).permutation(256).astype(np.int64)
    assert ranking(counts, "libstdcxx") == ranking(counts, "value")


def test_zeros_give_the_published_dictionary() -> None:
    counts = np.zeros(256, np.int64)
    counts[0] = 32768
    assert ranking(counts)[:36].hex() == (
        "00afa1aeadacabaaa9a8a7a6a5a4a3a2bfb0b1b2b3b4b5b6b7b8b9babbbcbdbec0908182"
    )


def killer(size: int) -> list[int]:
    """Return the permutation that drives a median-of-three quicksort into its depth limit."""
    half, out = size // 2, [0] * size
    for i in range(1, half + 1):
        if i % 2:
            out[i - 1] = i
            out[i] = half + i
        out[half + i - 1] = 2 * i
    return out


def counts_of_every_shape() -> list[list[int]]:
    rng = random.Random(20240229)
    cases = [
        [rng.randrange(top) for _ in range(size)]
        for size in (1, 2, 3, 15, 16, 17, 18, 33, 100, 255, 256, 257, 1000)
        for top in (1, 2, 5, 20, 1000)
    ]
    return cases + [killer(size) for size in (64, 128, 256, 512, 1000)]


def test_unstable_order_is_that_of_the_cpp_standard_library() -> None:
    # The digest is of the orders that g++ 12's std::sort printed for the same counts with the
    # comparator a.count > b.count; the last five cases reach its heapsort.
    digest = hashlib.sha256()
    for counts in counts_of_every_shape():
        order = list(range(len(counts)))
        introsort(order, lambda a, b, counts=counts: counts[a] > counts[b])
        assert [counts[i] for i in order] == sorted(counts, reverse=True)
        digest.update((" ".join(map(str, order)) + "\n").encode())
    assert digest.hexdigest() == "3f610de006f85ce236024fce75071dee13c9537e5f4add528301c79ebb2138a6"


def test_nothing_to_sort_is_sorted() -> None:
    items: list[int] = []
    introsort(items, lambda a, b: a < b)
    assert items == []


def test_wrong_histogram_or_order_is_refused() -> None:
    with pytest.raises(ValueError, match="255 counts"):
        ranking(np.zeros(255, np.int64))
    with pytest.raises(ValueError, match="expected libstdcxx or value"):
        ranking(np.zeros(256, np.int64), "stable")

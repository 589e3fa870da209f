"""Batched and grouped matmul, int4 weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import (
    grouped_matmul_int8,
    matmul_int8_batched,
    matmul_int8_int4,
    matmul_int8_plain,
)
from slimspec.matmul.grouped import group_edges, per_row
from slimspec.pack import pack_int4


def random_int8(seed, *shape, low=-128, high=128):
    return np.random.default_rng(seed).integers(low, high, shape, dtype=np.int8)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=0, max_size=5), st.integers(0, 9), st.integers(0, 5))
def test_each_expert_takes_its_rows(sizes, k, n):
    x, w = random_int8(1, sum(sizes), k), random_int8(2, len(sizes), n, k)
    got = grouped_matmul_int8(x, w, sizes)
    row = 0
    for e, size in enumerate(sizes):
        expected = matmul_int8_plain(x[row : row + size], w[e])
        assert np.array_equal(got[row : row + size], expected)
        row += size
    assert np.array_equal(got, grouped_matmul_int8(x, w, np.cumsum(sizes, dtype=int), "cumsum"))


@pytest.mark.parametrize("sizes", [[1, 1], [3, 1], [-1, 4], [1.0, 2.0], [3], [[1, 2]]])
def test_groups_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match="group_list"):
        grouped_matmul_int8(random_int8(1, 3, 2), random_int8(2, 2, 2, 2), sizes)


def test_values_are_repeated_for_each_row():
    edges = group_edges([2, 0, 1], 3, 3)
    assert edges == [0, 2, 2, 3]
    assert per_row(np.array([5, 6, 7]), edges).tolist() == [5, 5, 7]


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (0, 4, 5, 6), (2, 0, 5, 6), (2, 4, 5, 0)])
def test_batches_are_independent(shape):
    b, m, n, k = shape
    x, w = random_int8(1, b, m, k), random_int8(2, b, n, k)
    got = matmul_int8_batched(x, w)
    assert got.shape == (b, m, n)
    for i in range(b):
        assert np.array_equal(got[i], matmul_int8_plain(x[i], w[i]))


@pytest.mark.parametrize("axis", [0, 1])
def test_packed_int4_equals_its_codes(axis):
    x, w = random_int8(1, 3, 8), random_int8(2, 6, 8, low=-8, high=8)
    assert np.array_equal(matmul_int8_int4(x, pack_int4(w, axis=axis), axis),
                          matmul_int8_plain(x, w))  # fmt: skip


def test_worked_nibbles():
    codes = np.int8([[-8, -7, -1, 0, 1, 2, 3, 7]])
    packed = pack_int4(codes)
    assert packed.view(np.uint8).tolist() == [[0x98, 0x0F, 0x21, 0x73]]
    assert packed.view("<i4").tolist() == [[1931546520]]
    assert matmul_int8_int4(np.int8([[1, 0, 0, 0, 0, 0, 0, 2]]), packed).tolist() == [[6]]


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="b of x and w"):
        matmul_int8_batched(random_int8(1, 2, 1, 1), random_int8(1, 3, 1, 1))
    with pytest.raises(TypeError, match="w_packed"):
        matmul_int8_int4(random_int8(1, 1, 2), np.zeros((1, 1), np.uint8))

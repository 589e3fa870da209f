"""Eight codes in an int32: AWQ, Ascend and compressed-tensors orders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimspec.pack import (
    AWQ_ORDER,
    pack_ascend,
    pack_awq,
    pack_compressed,
    pack_int4,
    pack_words,
    unpack_ascend,
    unpack_awq,
    unpack_compressed,
    unpack_words,
)

COUNT = np.arange(8, dtype=np.uint8)
MIXED = np.array([15, 0, 8, 7, 3, 12, 1, 9], np.uint8)


def test_the_worked_words_come_out() -> None:
    assert pack_awq(COUNT).tolist() == [0x75316420]
    assert pack_awq(MIXED).tolist() == [-1670376561]
    assert pack_ascend(COUNT).tolist() == [-19088744]
    assert pack_ascend(MIXED).tolist() == [0x194BF087]
    assert pack_words(COUNT).tolist() == [0x76543210]


def test_awq_columns_sit_at_the_documented_shifts() -> None:
    shifts = [0, 16, 4, 20, 8, 24, 12, 28]
    for column, shift in enumerate(shifts):
        codes = np.zeros(8, np.uint8)
        codes[column] = 15
        assert pack_awq(codes).view(np.uint32).tolist() == [15 << shift]


def test_ascend_nibbles_are_the_signed_codes_in_sequence() -> None:
    q = np.array([7, -8, 0, -1, -5, 4, -7, 1], np.int8)
    assert pack_ascend(MIXED).tolist() == pack_int4(q).view("<i4").tolist()


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(0, 4), st.integers(0, 4).map(lambda m: 8 * m))),
    st.permutations(range(8)),
)
def test_any_order_packs_by_its_definition_and_unpacks(codes: np.ndarray, order: list[int]) -> None:
    codes = codes & np.uint8(15)
    words = pack_words(codes, tuple(order))
    eight = codes.reshape(*words.shape, 8).astype(int)
    expected = sum(eight[..., logical] << (4 * i) for i, logical in enumerate(order))
    assert np.array_equal(words.view(np.uint32), np.asarray(expected))
    assert np.array_equal(unpack_words(words, tuple(order)), codes)


@pytest.mark.parametrize("order", [AWQ_ORDER, (7, 6, 5, 4, 3, 2, 1, 0)])
def test_large_arrays_are_packed_like_small_ones(order: tuple[int, ...]) -> None:
    codes = np.random.default_rng(0).integers(0, 16, (800, 800), dtype=np.uint8).T[::-1]
    words = pack_words(codes, order)
    assert np.array_equal(words, np.concatenate([pack_words(row[None], order) for row in codes]))
    assert words.size >= 1 << 16
    assert np.array_equal(unpack_words(words, order), codes)


@pytest.mark.parametrize("columns", [8, 80_000])
def test_refusals_name_what_is_wrong(columns: int) -> None:
    with pytest.raises(ValueError, match=f"last axis {columns - 1} is no multiple of 8"):
        pack_words(np.zeros((2, columns - 1), np.uint8))
    codes = np.zeros((2, columns), np.uint8)
    codes[1, 5] = 16
    with pytest.raises(ValueError, match=r"qzeros: 16 at index \(1, 5\)"):
        pack_awq(codes, "qzeros")
    with pytest.raises(TypeError, match="int8"):
        pack_words(codes.view(np.int8))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int64"):
        unpack_words(np.zeros(2, np.int64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="permutation"):
        pack_words(codes, (0, 0, 1, 2, 3, 4, 5, 6))


def test_ascend_unpacks_to_unsigned_codes() -> None:
    codes = np.random.default_rng(1).integers(0, 16, (5, 24), dtype=np.uint8)
    assert np.array_equal(unpack_ascend(pack_ascend(codes)), codes)
    assert np.array_equal(unpack_awq(pack_awq(codes)), codes)


def test_compressed_words_hold_q_plus_8_in_sequence() -> None:
    q = np.array([[-8, -7, -1, 0, 1, 2, 3, 7]], np.int8)
    assert pack_compressed(q).view(np.uint32).tolist() == [[0xFBA98710]]
    assert np.array_equal(unpack_compressed(pack_compressed(q), (1, 8)), q)
    with pytest.raises(ValueError, match="does not hold"):
        unpack_compressed(pack_compressed(q), (1, 16))
    with pytest.raises(ValueError, match=r"8 at index \(0, 0\)"):
        pack_compressed(np.full((1, 8), 8, np.int8))
    with pytest.raises(ValueError, match="no multiple of 8"):
        pack_compressed(np.zeros((1, 7), np.int8))

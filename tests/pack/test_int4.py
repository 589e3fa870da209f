"""int4 pairs: byte layout, both axes, refusals, compiled equal to plain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimspec.pack import kernels, pack_int4, pack_words, unpack_int4
from slimspec.pack.int4 import pack_int4_plain, unpack_int4_plain


def test_the_low_nibble_is_the_even_index_for_all_256_pairs() -> None:
    q = np.array([[a, b] for a in range(-8, 8) for b in range(-8, 8)], np.int8)
    expected = [((b % 16) << 4) | (a % 16) for a, b in q.tolist()]
    assert pack_int4(q).view(np.uint8).ravel().tolist() == expected
    assert np.array_equal(unpack_int4(pack_int4(q)), q)


def test_every_byte_unpacks_to_the_pair_that_packs_to_it() -> None:
    every = np.arange(256, dtype=np.uint16).astype(np.uint8).view(np.int8).reshape(256, 1)
    assert np.array_equal(pack_int4(unpack_int4(every)), every)


def test_the_worked_rows_are_paired_as_documented() -> None:
    q = np.array([[-8, 7, -1, 3], [1, -2, 5, -4]], np.int8)
    assert pack_int4(q, axis=0).view(np.uint8).tolist() == [[0x18, 0xE7, 0x5F, 0xC3]]
    assert pack_int4(q, axis=1).view(np.uint8).tolist() == [[0x78, 0x3F], [0xE1, 0xC5]]


def test_four_bytes_read_as_int32_hold_the_kernel_order() -> None:
    q = np.array([-8, -7, -1, 0, 1, 2, 3, 7], np.int8)
    packed = pack_int4(q)
    assert packed.view(np.uint8).tolist() == [152, 15, 33, 115]
    assert packed.view("<i4").tolist() == [0x73210F98] == [1931546520]
    assert packed.view("<i4").tolist() == pack_words((q & 15).view(np.uint8)).tolist()


arrays = hnp.arrays(
    np.int8,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6),
    elements=st.integers(-8, 7),
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(arrays, st.data())
def test_packing_halves_one_axis_and_unpacking_restores_it(q: np.ndarray, data) -> None:  # type: ignore[no-untyped-def]
    axis = data.draw(st.integers(-q.ndim, q.ndim - 1))
    q = np.concatenate([q, q], axis=axis)
    packed = pack_int4(q, axis)
    even, odd = (np.take(q, range(i, q.shape[axis], 2), axis=axis).astype(int) for i in (0, 1))
    assert np.array_equal(packed.view(np.uint8), (odd % 16) * 16 + even % 16)
    assert np.array_equal(unpack_int4(packed, axis), q)


@pytest.mark.parametrize("shape", [(256, 300), (2, 150, 260), (130000,), (1, 2, 70000)])
def test_compiled_and_plain_forms_agree_for_every_axis_and_layout(shape: tuple[int, ...]) -> None:
    q = np.random.default_rng(0).integers(-8, 8, shape, dtype=np.int8)
    for view in (q, q.T, q[..., ::-1]):
        for axis in range(view.ndim):
            if view.shape[axis] % 2:
                continue
            packed = pack_int4(view, axis)
            assert np.array_equal(packed, pack_int4_plain(view, axis))
            assert np.array_equal(unpack_int4(packed, axis), view)
            assert np.array_equal(unpack_int4_plain(packed, axis), view)


def test_an_odd_axis_is_refused_with_name_and_size() -> None:
    with pytest.raises(ValueError, match=r"q_proj: axis 0 has odd size 7"):
        pack_int4(np.zeros((7, 8), np.int8), axis=0, name="q_proj")
    with pytest.raises(ValueError, match="no axis 2"):
        pack_int4(np.zeros((8, 8), np.int8), axis=2)
    with pytest.raises(ValueError, match="no axis -3"):
        unpack_int4(np.zeros((8, 8), np.int8), axis=-3)


@pytest.mark.parametrize("size", [4, 100_000])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("wrong", [-9, 8, 127, -128])
def test_a_code_out_of_range_is_refused_with_its_index(size: int, axis: int, wrong: int) -> None:
    q = np.zeros((4, size), np.int8)
    q[3, 1] = wrong
    with pytest.raises(ValueError, match=rf"weight: {wrong} at index \(3, 1\)"):
        pack_int4(q, axis)


def test_the_kernels_flag_exactly_the_codes_outside_four_bits() -> None:
    every = np.arange(-128, 128, dtype=np.int16).astype(np.int8)
    for value in every:
        for pair in ((value, 0), (0, value)):
            q = np.array(pair, np.int8)
            rows = q.view(np.uint8).reshape(1, 2, 1)
            flat = kernels.pack_flat(q.view("<u2"), np.empty(1, np.uint8))
            paired = kernels.pack_rows(rows, np.empty((1, 1, 1), np.uint8))
            assert bool(flat) == bool(paired) == (not -8 <= value <= 7)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="int32"):
        pack_int4(np.zeros(2, np.int32))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="uint8"):
        unpack_int4(np.zeros(2, np.uint8))  # type: ignore[arg-type]

"""FP4 pairs in a byte."""

from __future__ import annotations

import numpy as np
import pytest

from slimspec.pack import pack_fp4, unpack_fp4


def test_the_even_code_is_the_low_nibble_for_all_256_pairs() -> None:
    codes = np.array([[a, b] for b in range(16) for a in range(16)], np.uint8)
    assert pack_fp4(codes).ravel().tolist() == list(range(256))
    assert np.array_equal(unpack_fp4(pack_fp4(codes)), codes)


def test_views_and_empty_arrays_pack() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (6, 10), dtype=np.uint8)
    assert np.array_equal(unpack_fp4(pack_fp4(codes.T)), codes.T)
    assert pack_fp4(np.empty((3, 0), np.uint8)).shape == (3, 0)


def test_odd_sizes_large_codes_and_other_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="odd size 7"):
        pack_fp4(np.zeros((4, 7), np.uint8))
    with pytest.raises(ValueError, match=r"16 at index \(0, 1\)"):
        pack_fp4(np.array([[0, 16]], np.uint8))
    with pytest.raises(TypeError, match="int8"):
        pack_fp4(np.zeros((4, 8), np.int8))  # type: ignore[arg-type]

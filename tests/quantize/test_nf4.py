"""NF4: nearest level, block maxima, high nibble first."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.quantize.nf4 import TABLE, dequantize_nf4, quantize_nf4


def test_levels_themselves_survive_and_the_first_of_a_pair_is_the_high_nibble() -> None:
    w = np.tile(TABLE, 4) * np.float32(2)
    packed, absmax = quantize_nf4(w.reshape(1, 64))
    assert absmax.tolist() == [2.0]
    assert packed[:8].tolist() == [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF]
    assert (dequantize_nf4(packed, absmax) == w).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_every_value_takes_its_nearest_level(dtype: type) -> None:
    w = np.random.default_rng(0).standard_normal((8, 64)).astype(dtype)
    packed, absmax = quantize_nf4(w, 32)
    levels = TABLE.astype(dtype).astype(np.float64)
    scaled = (w.reshape(-1, 32) / absmax[:, None]).astype(np.float64)
    code = np.stack([packed >> 4, packed & 15], axis=1).reshape(scaled.shape)
    chosen = np.abs(scaled - levels[code])
    best = np.abs(scaled[..., None] - levels).min(axis=-1)
    # The difference is rounded in the dtype: a level that loses by less than that may win.
    assert (chosen <= best + float(ml_dtypes.finfo(dtype).eps)).all()


def test_midpoint_takes_the_lower_level() -> None:
    middle = (TABLE[14] + TABLE[15]) / np.float32(2)
    w = np.float32([1.0, middle] * 32)
    packed, _ = quantize_nf4(w)
    distance = np.abs(middle - TABLE)
    assert packed[0] == (15 << 4) | int(distance.argmin())


def test_block_of_zeros_gives_zeros_back() -> None:
    packed, absmax = quantize_nf4(np.zeros(64, np.float32))
    assert (packed == 0).all()
    assert (dequantize_nf4(packed, absmax) == 0).all()


@pytest.mark.parametrize(("size", "block"), [(63, 64), (64, 3), (64, 0)])
def test_sizes_that_fill_no_block_are_refused(size: int, block: int) -> None:
    with pytest.raises(ValueError, match="blocks"):
        quantize_nf4(np.zeros(size, np.float32), block)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="index"):
        quantize_nf4(np.full(64, np.nan, np.float32))

"""The deq_scale word of the files."""

from __future__ import annotations

import numpy as np
import pytest

from slimspec.numeric.deq_word import decode_deq_scale, encode_deq_scale


def test_worked_scales_have_the_documented_words() -> None:
    scale = np.array([0x39818388, 0x391B6AA3], np.uint32).view(np.float32)
    word = encode_deq_scale(scale)
    assert word.dtype == np.int64
    assert word.tolist() == [964789128, 958098083]


def test_a_negative_scale_is_sign_extended() -> None:
    word = encode_deq_scale(np.array([-1.0], np.float32))
    assert word.tolist() == [0xBF800000 - 2**32]


def test_every_bit_pattern_of_a_sample_survives_both_ways() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 5000, dtype=np.uint32).reshape(50, 100)
    scale = bits.view(np.float32)
    assert np.array_equal(decode_deq_scale(encode_deq_scale(scale)).view(np.uint32), bits)
    assert np.array_equal(
        decode_deq_scale(encode_deq_scale(scale.T[::2]).view(np.uint64)).view(np.uint32),
        bits.T[::2],
    )


def test_decoding_ignores_the_flags_above_the_low_word() -> None:
    word = np.array([0x40803C498000], np.uint64)
    assert decode_deq_scale(word).view(np.uint32).tolist() == [0x3C498000]


def test_wrong_dtypes_are_refused_not_converted() -> None:
    with pytest.raises(TypeError, match="float16"):
        encode_deq_scale(np.zeros(1, np.float16))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int32"):
        decode_deq_scale(np.zeros(1, np.int32))

"""The 64-bit word: every row of the fact table, bit for bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import parse_quant_param, scale_bits, trans_quant_param

F32 = np.float32


@pytest.mark.parametrize(
    ("scale", "offset", "word", "stored"),
    [
        (0.0123, None, 0x40003C498000, 0),
        (0.0123, 3.5, 0x40803C498000, 4),
        (0.0123, 2.5, 0x40403C498000, 2),
        (0.0123, -300, 0x60003C498000, -256),
        (1.0, -1, 0x7FE03F800000, -1),
        (-0.0123, None, 0x4000BC498000, 0),
    ],
)
def test_worked_words(scale, offset, word, stored):
    built = trans_quant_param(scale, offset)
    assert built.dtype == np.uint64
    assert int(built) == word
    assert int(parse_quant_param(built).offset) == stored


def test_worked_decimals():
    assert int(trans_quant_param(0.0123)) == 70369755627520
    assert int(trans_quant_param(0.0123, 3.5)) == 70919511441408
    assert int(trans_quant_param(0.0123, 2.5)) == 70644633534464
    assert int(trans_quant_param(0.0123, -300)) == 105554127716352
    assert int(trans_quant_param(1.0, -1)) == 140601114755072


def test_fp19_value_of_the_worked_scale():
    assert parse_quant_param(trans_quant_param([0.0123])).scale == F32(0.012298584)


def test_checkpoint_word_is_the_bare_float32():
    word = np.array([964789128, 958098083])  # int64, no mask, no bit 46
    assert scale_bits(word).view(np.uint32).tolist() == [0x39818388, 0x391B6AA3]
    assert parse_quant_param(word).scale.view(np.uint32).tolist() == [0x39818000, 0x391B6000]
    assert parse_quant_param(word).offset.tolist() == [0, 0]


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.floats(-400, 400, width=32))
def test_round_trip_of_any_scale_bits_and_offset(bits, offset):
    scale = np.array([bits], np.uint32).view(F32)
    back = parse_quant_param(trans_quant_param(scale, offset))
    assert int(back.scale.view(np.uint32)[0]) == bits // 2**13 * 2**13
    assert int(back.offset[0]) == min(max(round(Fraction(offset)), -256), 255)


def test_round_mode_1_rounds_to_even_and_flushes_subnormals():
    bits = np.array([0x3C499000, 0x3C49B000, 0x3C499001, 1, 0x80000001], np.uint32).view(F32)
    low = (trans_quant_param(bits, round_mode=1) & np.uint64(0xFFFFFFFF)).tolist()
    assert low == [0x3C498000, 0x3C49C000, 0x3C49A000, 0, 0x80000000]


def test_dtypes_and_errors():
    parsed = parse_quant_param(trans_quant_param([1.0, 2.0], [3, 4]))
    assert (parsed.scale.dtype, parsed.offset.dtype) == (F32, np.int32)
    with pytest.raises(TypeError, match="int64"):
        parse_quant_param(np.zeros(2, F32))
    with pytest.raises(ValueError, match="NaN"):
        trans_quant_param([1.0], [np.nan])
    with pytest.raises(ValueError, match="round_mode"):
        trans_quant_param([1.0], round_mode=2)

"""bfloat16 and fp16 as bits: exhaustive against ml_dtypes and numpy, plain and compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

from slimspec.numeric import kernels
from slimspec.numeric.bf16 import bf16_to_float32, float32_to_bf16
from slimspec.numeric.fp16 import float32_to_fp16, fp16_to_float32

ALL = np.arange(65536, dtype=np.uint32).astype(np.uint16)


class Format(NamedTuple):
    dtype: Any
    widen: Any
    narrow: Any
    largest: float


FORMATS = [
    Format(ml_dtypes.bfloat16, bf16_to_float32, float32_to_bf16, float(2**128 - 2**120)),
    Format(np.float16, fp16_to_float32, float32_to_fp16, 65504.0),
]
each_format = pytest.mark.parametrize("fmt", FORMATS, ids=["bf16", "fp16"])


def bits(x: np.ndarray) -> np.ndarray:
    return x.view(np.uint32)


def crafted(fmt: Format) -> np.ndarray:
    """All values, midpoints of neighbours, the float32 on either side, and random patterns."""
    values = fmt.widen(ALL)
    values = np.unique(values[np.isfinite(values)])
    middle = ((values[1:].astype(float) + values[:-1].astype(float)) / 2).astype(np.float32)
    top = np.array([np.inf, -np.inf, fmt.largest, 65519.996, 65520, 3.4028235e38], np.float32)
    up, down = (np.nextafter(middle, np.float32(s)) for s in (np.inf, -np.inf))
    random = np.random.default_rng(0).integers(0, 2**32, 300_000, dtype=np.uint32)
    random = random.view(np.float32)
    return np.concatenate([values, middle, up, down, top, -top, random[~np.isnan(random)]])


@each_format
def test_every_code_widens_to_the_same_float32_as_the_library(fmt: Format) -> None:
    assert np.array_equal(bits(fmt.widen(ALL)), bits(ALL.view(fmt.dtype).astype(np.float32)))


@each_format
def test_narrowing_equals_the_library_on_ties_and_their_neighbours(fmt: Format) -> None:
    x = crafted(fmt)
    with np.errstate(over="ignore"):
        expected = x.astype(fmt.dtype).view(np.uint16)
    assert np.array_equal(fmt.narrow(x), expected)


@each_format
def test_narrowing_undoes_widening_for_every_code_that_is_no_nan(fmt: Format) -> None:
    wide = fmt.widen(ALL)
    number = ~np.isnan(wide)
    assert np.array_equal(fmt.narrow(wide)[number], ALL[number])


@each_format
def test_nan_becomes_the_quiet_nan_of_its_sign(fmt: Format) -> None:
    nan = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    quiet = fmt.narrow(np.array([np.inf], np.float32))[0] | (0x40 if fmt is FORMATS[0] else 0x200)
    assert fmt.narrow(nan).tolist() == [quiet, quiet, quiet | 0x8000, quiet | 0x8000]


@each_format
def test_saturation_gives_the_largest_value_and_zero_for_nan(fmt: Format) -> None:
    x = crafted(fmt)
    found = fmt.widen(fmt.narrow(x, "saturate"))
    plain = fmt.widen(fmt.narrow(x))
    expected = np.clip(plain, -np.float32(fmt.largest), np.float32(fmt.largest))
    assert np.array_equal(bits(found), bits(expected))
    assert fmt.narrow(np.array([np.nan, -np.nan], np.float32), "saturate").tolist() == [0, 0]


@each_format
def test_an_unknown_policy_is_refused(fmt: Format) -> None:
    with pytest.raises(ValueError, match="wrap"):
        fmt.narrow(np.zeros(1, np.float32), "wrap")


@each_format
def test_compiled_casts_give_the_plain_bits(fmt: Format) -> None:
    x = np.append(crafted(fmt), np.array([np.nan, -np.nan], np.float32))
    x = x[: x.size // 4 * 4].reshape(4, -1)
    assert np.array_equal(kernels.narrow(x, fmt.dtype).view(np.uint16), fmt.narrow(x))
    strided = x.T[::3]
    assert np.array_equal(kernels.narrow(strided, fmt.dtype).view(np.uint16), fmt.narrow(strided))
    codes = ALL.view(fmt.dtype).reshape(256, 256).T
    assert np.array_equal(bits(kernels.widen(codes)), bits(fmt.widen(ALL.reshape(256, 256).T)))


@pytest.mark.parametrize(
    ("to_bits", "to_value", "fmt"),
    [
        (kernels.bf16_bits, kernels.bf16_value, FORMATS[0]),
        (kernels.fp16_bits, kernels.fp16_value, FORMATS[1]),
    ],
    ids=["bf16", "fp16"],
)
def test_scalar_kernels_give_the_same_bits_without_compilation(to_bits, to_value, fmt) -> None:  # type: ignore[no-untyped-def]
    x = np.append(crafted(fmt)[::997], np.array([np.nan], np.float32))
    plain = getattr(to_bits, "py_func", to_bits)
    assert [int(plain(v)) for v in x] == fmt.narrow(x).tolist()
    back = getattr(to_value, "py_func", to_value)
    for code in ALL[::131]:
        assert back(code).tobytes() == fmt.widen(np.array([code]))[0].tobytes()

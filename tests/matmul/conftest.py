"""An oracle that shares no code with the reference: exact fractions and Python integers."""

from fractions import Fraction
from typing import NamedTuple

import pytest


class Format(NamedTuple):
    """A binary float: bits of significand (with the implicit one), exponent range."""

    digits: int
    smallest: int  # exponent of the last bit of a subnormal
    largest: int  # exponent of the leading bit of the largest finite number


FLOAT32, FLOAT16, BFLOAT16 = Format(24, -149, 127), Format(11, -24, 15), Format(8, -133, 127)


def nearest_even(value: Fraction) -> int:
    """Nearest integer, ties to the even one; Python's round on a Fraction does just that."""
    return round(value)


def rounded(value: Fraction, kind: Format) -> Fraction | float:
    """`value` rounded once to the format, to nearest even; ±inf past the largest."""
    if value == 0:
        return Fraction(0)
    exponent = 0
    magnitude = abs(value)
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while magnitude < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - kind.digits + 1, kind.smallest)
    result = nearest_even(value / unit) * unit
    if abs(result) >= Fraction(2) ** (kind.largest + 1):
        return float("inf") if value > 0 else float("-inf")
    return result


class Exact:
    """Namespace handed to the tests."""

    formats = (FLOAT32, FLOAT16, BFLOAT16)
    rounded = staticmethod(rounded)
    nearest_even = staticmethod(nearest_even)

    @staticmethod
    def float32(value: Fraction) -> Fraction | float:
        return rounded(value, FLOAT32)

    @staticmethod
    def float16(value: Fraction) -> Fraction | float:
        return rounded(value, FLOAT16)

    @staticmethod
    def bfloat16(value: Fraction) -> Fraction | float:
        return rounded(value, BFLOAT16)


@pytest.fixture(scope="session")
def exact() -> type[Exact]:
    return Exact

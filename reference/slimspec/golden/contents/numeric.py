"""Vectors of rounding, saturation and casts."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .model import Definition, bits32, f32

_TABLE = f32(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)
_SOURCE = "integer_semantics.md B.0"


def cases() -> Iterator[Definition]:
    yield from _rounding()
    yield from _saturation()
    yield from _casts()
    yield from _specials()
    yield from _decodes()


def _ties() -> NDArray[np.float32]:
    """Every n + 1/2 with a code next to it, and one step of float32 to either side."""
    half = np.arange(-130, 131).astype(np.float32) + np.float32(0.5)
    below, above = (np.nextafter(half, np.float32(s) * np.float32(np.inf)) for s in (-1, 1))
    return np.stack([below, half, above])


def _rounding() -> Iterator[Definition]:
    rows: dict[str, list[float]] = {
        "half_even": [-2, -2, -0.0, 0, 2, 2],
        "half_away": [-3, -2, -1, 1, 2, 3],
        "floor": [-3, -2, -1, 0, 1, 2],
        "ceil": [-2, -1, -0.0, 1, 2, 3],
        "trunc": [-2, -1, -0.0, 0, 1, 2],
    }
    for number, (name, row) in enumerate(rows.items(), 1):
        yield Definition(
            "round", f"{number:03}", f"the six ties of the rounding table under {name}",
            {"x": _TABLE}, {"y": f32(row)}, {"rule": name}, ("TieRounding", "SignedZero"),
            source=_SOURCE,
        )  # fmt: skip
    ties = _ties()
    for number, name in ((10, "half_even"), (11, "half_away")):
        whole = np.array(exact.integers(ties, getattr(exact, name)), np.float64)
        yield Definition(
            "round", f"{number:03}",
            "n + 1/2 for every n from -130 to 130 with both float32 neighbours: exact fractions",
            {"x": ties}, {"y": np.copysign(np.abs(whole), ties).astype(np.float32)},
            {"rule": name}, ("TieRounding", "HalfUlp"), source=_SOURCE,
        )  # fmt: skip
    big = f32(2.0**23, 2.0**23 + 1, -(2.0**24), 3e38, np.inf, -np.inf, 0.0, -0.0, 8388607.5)
    yield Definition(
        "round", "020", "numbers past 2^23 are integers already; 8388607.5 is the last tie",
        {"x": big}, {"y": np.append(big[:-1], np.float32(8388608))}, {"rule": "half_even"},
        ("LargeFloat", "SignedZero"), source=_SOURCE,
    )  # fmt: skip


def _saturation() -> Iterator[Definition]:
    ends = f32(-3e38, -np.inf, -257, -129, -128, -127, -9, -8, 0, 7, 8, 127, 128, 255, 256, np.inf)
    for key, low, high, tag in (
        ("001", -128, 127, "I8"), ("002", -8, 7, "I8"), ("003", -256, 255, "I16"),
        ("004", 0, 255, "U8"), ("005", -127, 127, "I8"),
    ):  # fmt: skip
        kind = {"I8": np.int8, "I16": np.int16, "U8": np.uint8}[tag]
        yield Definition(
            "saturate", key, f"both ends of [{low}, {high}] and one past each: clip, then narrow",
            {"x": ends}, {"q": exact.clipped(ends.tolist(), low, high, kind)},
            {"low": low, "high": high, "out_dtype": tag}, ("SaturateThenNarrow",),
            source="math.md 14",
        )  # fmt: skip
    yield Definition(
        "saturate", "006", "NaN becomes 0 where the policy says so", {"x": f32(np.nan, 1, np.nan)},
        {"q": np.array([0, 1, 0], np.int8)}, {"low": -128, "high": 127, "nan": 0}, ("NaNPolicy",),
        source=_SOURCE,
    )  # fmt: skip


def _around(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Midpoints of neighbouring values of a format, and the float32 numbers next to them."""
    middle = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    below, above = (np.nextafter(middle, np.float32(s) * np.float32(np.inf)) for s in (-1, 1))
    return np.concatenate([below, middle, above]).astype(np.float32)


def _narrow_values(bits: list[int], tag: str) -> NDArray[np.float64]:
    """Numbers of a 16-bit float from their bits, by the definition of the format."""
    width, bias, shift = (10, 15, 14) if tag == "F16" else (7, 127, 126)
    found = []
    for word in bits:
        exponent, mantissa = word >> width & (31 if tag == "F16" else 255), word & (1 << width) - 1
        if exponent:
            value = (1 + Fraction(mantissa, 1 << width)) * Fraction(2) ** (exponent - bias)
        else:
            value = Fraction(mantissa, 1 << width) * Fraction(2) ** -shift
        found.append(float(value))
    return np.array(found)


def _casts() -> Iterator[Definition]:
    for key, tag, words in (
        ("001", "F16", [0, 1, 2, 3, 0x3FF, 0x400, 0x401, 0x7FF, 0x3BFF, 0x3C00, 0x3C01, 0x3C02,
                        0x58BE, 0x58BF, 0x58C0, 0x7BFE, 0x7BFF]),
        ("002", "BF16", [0, 1, 2, 0x7F, 0x80, 0x81, 0x3F7F, 0x3F80, 0x3F81, 0x3F82, 0x4318, 0x4319,
                         0x7F7E, 0x7F7F]),
    ):  # fmt: skip
        x = _around(_narrow_values(words, tag))
        x = np.concatenate([x, -x])
        yield Definition(
            "cast", key,
            f"float32 around midpoints of {tag} numbers, subnormals, the smallest normal and the"
            " largest number included: exact fractions, ties to even",
            {"x": x}, {"y": exact.cast(x, exact.FORMATS[tag])}, {"to": tag},
            ("TieRounding", "Subnormal"), source=_SOURCE,
        )  # fmt: skip
    edge = f32(65504, 65519.99609375, 65520, 65536, 3e38, np.inf, 2.0**-25, 1.5 * 2.0**-25, -0.0)
    yield Definition(
        "cast", "003", "fp16 overflow: 65520 is the tie between 65504 and 2^16 and becomes inf;"
        " 2^-25 is the tie between 0 and the least subnormal and becomes 0",
        {"x": edge}, {"y": np.array([0x7BFF, 0x7BFF, 0x7C00, 0x7C00, 0x7C00, 0x7C00, 0, 1, 0x8000],
                                    np.uint16).view(np.float16)}, {"to": "F16"},
        ("Fp16Overflow", "Subnormal", "SignedZero"), source=_SOURCE,
    )  # fmt: skip
    edge = f32(65504, 65520, -65520, np.inf, -np.inf, np.nan, 1)
    yield Definition(
        "cast", "004", "the saturating profile: overflow and inf become ±65504, NaN becomes 0",
        {"x": edge}, {"y": np.array([0x7BFF, 0x7BFF, 0xFBFF, 0x7BFF, 0xFBFF, 0, 0x3C00],
                                    np.uint16).view(np.float16)},
        {"to": "F16", "overflow": "saturate"}, ("Fp16Overflow", "NaNPolicy"),
        source="integer_semantics.md B.11", numerics="sat",
    )  # fmt: skip
    values = np.array([float(v) for v in e4m3()])
    x = _around(np.unique(values[np.isfinite(values)]))
    yield Definition(
        "cast", "005", "float32 around every midpoint of E4M3: the code of the nearest value, ties"
        " to the even code", {"x": x}, {"y": _nearest_codes(x, e4m3())}, {"to": "E4M3"},
        ("TieRounding", "Subnormal"), ("MX-003",), "math.md 12",
    )  # fmt: skip
    x = f32(448, 463, 464, 465, 1e30, -1e30, np.inf, 2.0**-10, -0.0)
    yield Definition(
        "cast", "006", "E4M3 saturates at 448; 464 is the last tie; 2^-10 ties to 0", {"x": x},
        {"y": np.array([0x7E, 0x7E, 0x7E, 0x7E, 0x7E, 0xFE, 0x7E, 0, 0x80], np.uint8)},
        {"to": "E4M3"}, ("SaturateThenNarrow", "SignedZero"), ("MX-003",), "math.md 12",
    )  # fmt: skip
    x = _around(np.unique(np.array([float(v) for v in e2m1()])))
    yield Definition(
        "cast", "007", "float32 around every midpoint of E2M1: 0, .5, 1, 1.5, 2, 3, 4, 6", {"x": x},
        {"y": _nearest_codes(x, e2m1())}, {"to": "FP4"}, ("TieRounding",), ("MX-004",),
        "math.md 12",
    )  # fmt: skip
    scale = bits32(
        0x3C4985F0, 0xBC4985F0, 0x3F800000, 0x3F801FFF, 0x3F803000, 0x39818388, 0x00001FFF
    )
    yield Definition(
        "cast", "008", "FP19 keeps sign, exponent and 10 mantissa bits: & 0xFFFFE000", {"x": scale},
        {"y": bits32(0x3C498000, 0xBC498000, 0x3F800000, 0x3F800000, 0x3F802000, 0x39818000, 0)},
        {"to": "FP19"}, ("Fp19Truncation",), ("DEQ-001",), "integer_semantics.md B.1",
    )  # fmt: skip
    yield Definition(
        "cast", "009", "round_mode 1 rounds to nearest even at bit 13; subnormals become zero",
        {"x": bits32(0x3F801000, 0x3F803000, 0x3F801001, 0x3F800FFF, 0x00001FFF, 0x80001FFF)},
        {"y": bits32(0x3F800000, 0x3F804000, 0x3F802000, 0x3F800000, 0, 0x80000000)},
        {"to": "FP19_ROUND"}, ("Fp19Truncation", "TieRounding"), ("DEQ-001",),
        "integer_semantics.md B.1",
    )  # fmt: skip


def _specials() -> Iterator[Definition]:
    x = bits32(0x7F800000, 0xFF800000, 0x00000001, 0x80000001, 0x00008000, 0x00018000, 0x7F7FFFFF)
    x = np.append(x, f32(np.nan, -0.0))
    words = [0x7F80, 0xFF80, 0, 0x8000, 0, 2, 0x7F80, 0x7FC0, 0x8000]
    yield Definition(
        "cast", "010", "bfloat16: infinities and NaN stay, the largest float32 becomes infinity,"
        " subnormals round half to even", {"x": x},
        {"y": np.array(words, np.uint16).view(exact.BF16.dtype)}, {"to": "BF16"},
        ("NaNPolicy", "Subnormal", "SignedZero"), (), _SOURCE,
    )  # fmt: skip
    yield Definition(
        "cast", "011", "E4M3 has no infinity: NaN is 0x7F, infinity saturates",
        {"x": f32(np.nan, np.inf, -np.inf)}, {"y": np.array([0x7F, 0x7E, 0xFE], np.uint8)},
        {"to": "E4M3"}, ("NaNPolicy", "SaturateThenNarrow"), ("MX-003",), "math.md 12",
    )  # fmt: skip


def e4m3() -> list[Fraction | float]:
    """Value of every E4M3 code."""
    found: list[Fraction | float] = []
    for code in range(256):
        exponent, mantissa, sign = code >> 3 & 15, code & 7, -1 if code & 128 else 1
        value = Fraction(8 + mantissa if exponent else mantissa, 8)
        value *= Fraction(2) ** (max(exponent, 1) - 7)
        nan = code & 127 == 127
        found.append(float("nan") if nan else -0.0 if code == 128 else sign * value)
    return found


def e2m1() -> list[Fraction | float]:
    """Value of every E2M1 code; 8 is minus zero."""
    table = [Fraction(v, 2) for v in (0, 1, 2, 3, 4, 6, 8, 12)]
    return [*table, -0.0, *(-v for v in table[1:])]


def _nearest_codes(x: NDArray[np.float32], values: list[Fraction | float]) -> NDArray[np.uint8]:
    """Index of the nearest value of the sign of x; of two, the even index."""
    half = len(values) // 2
    positive = {
        code: Fraction(values[code]) for code in range(half) if values[code] == values[code]
    }
    found = []
    for value in x.tolist():
        gap = {code: abs(abs(Fraction(value)) - v) for code, v in positive.items()}
        code = min(gap, key=lambda c: (gap[c], c & 1))
        found.append(code + (half if np.signbit(value) else 0))
    return np.array(found, np.uint8)


def _decodes() -> Iterator[Definition]:
    every = np.arange(256, dtype=np.uint8)
    yield Definition(
        "decode", "001", "all 256 codes of E4M3 by the definition of the format; 0x7F and 0xFF NaN",
        {"codes": every}, {"y": np.array([float(v) for v in e4m3()], np.float32)},
        {"from": "E4M3"}, ("ExhaustiveCodes", "SignedZero"), ("MX-003",), "math.md 12",
    )  # fmt: skip
    yield Definition(
        "decode", "002", "all 16 codes of E2M1", {"codes": every[:16]},
        {"y": np.array([float(v) for v in e2m1()], np.float32)}, {"from": "FP4"},
        ("ExhaustiveCodes", "SignedZero"), ("MX-004",), "math.md 12",
    )  # fmt: skip
    powers = np.array([2.0 ** (c - 127) for c in range(255)] + [np.nan]).astype(np.float32)
    yield Definition(
        "decode", "003", "all 256 codes of E8M0: 2^(code - 127), 255 is NaN", {"codes": every},
        {"y": powers}, {"from": "E8M0"}, ("ExhaustiveCodes", "Subnormal"), ("MX-006",),
        "math.md 12",
    )  # fmt: skip

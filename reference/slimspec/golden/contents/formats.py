"""Vectors of stored forms: MX blocks, AWQ words, fractals."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .model import Definition, f32
from .numeric import e2m1, e4m3

F16 = np.float16
_MX8, _MX4 = ("MX-001", "MX-006"), ("MX-004", "MX-006")


def cases() -> Iterator[Definition]:
    yield from _stored_blocks()
    yield from _mxfp8()
    yield from _mxfp4()
    yield from _awq()
    yield from _fractals()


def _powers(bytes_: NDArray[np.uint8]) -> NDArray[np.float64]:
    """2^(byte - 127), 255 is NaN."""
    return np.where(bytes_ == 255, np.nan, np.exp2(bytes_.astype(np.float64) - 127))


def _stored_blocks() -> Iterator[Definition]:
    every = np.arange(256, dtype=np.uint8).reshape(8, 32)
    ends = np.array([[0], [1], [119], [127], [128], [253], [254], [255]], np.uint8)
    # 40 columns, the second block of a row is short
    stored, scale = (
        np.concatenate([every, every[::-1, :8]], axis=1),
        np.concatenate([ends, ends[::-1]], axis=1),
    )
    values = np.array([float(v) for v in e4m3()])[stored]
    note = "scale bytes 0 (2^-127, a subnormal), 1, 254 (2^127) and 255 (NaN) among them"
    yield Definition(
        "dequantize_mx", "001", f"all 256 E4M3 codes, rows of 32 + 8 columns; {note}; products are"
        " exact, subnormal or infinite", {"weight": stored, "weight_scale": scale},
        {"w": exact.mul(values, np.repeat(_powers(scale), 32, axis=1)[:, :40])},
        {"format": "mxfp8"},
        ("ExhaustiveCodes", "BlockExponent", "Subnormal", "NaNPolicy", "Unaligned"),
        (*_MX8, "MX-003"),
        "math.md 12",
    )  # fmt: skip
    codes = np.concatenate([np.arange(16), np.arange(16)[::-1]]).astype(np.uint8)
    codes = np.stack([np.roll(codes, n) for n in range(4)])  # (4, 32): each code twice a block
    pairs, scale = codes[:, 0::2] | codes[:, 1::2] << np.uint8(4), ends[[0, 1, 6, 7]]
    values = np.array([float(v) for v in e2m1()], np.float32)[codes]
    yield Definition(
        "dequantize_mx", "002", "every E2M1 code in blocks with the scale bytes 0, 1, 254 and 255",
        {"weight": pairs, "weight_scale": scale}, {"w": exact.mul(values, _powers(scale))},
        {"format": "mxfp4"}, ("ExhaustiveCodes", "BlockExponent", "NibbleOrder", "Subnormal"),
        _MX4, "math.md 12",
    )  # fmt: skip
    exponent = f32([[-127], [-126], [0], [127], [126], [1], [-1], [np.nan]])
    stored = np.array([[0], [1], [127], [254], [253], [128], [126], [255]], np.uint8)
    elements = np.array([float(v) for v in e4m3()], np.float32).reshape(8, 32)
    elements[7, 31] = 448.0  # 0xFF: NaN is stored as 0x7F
    stored_codes = every.copy()
    stored_codes[7, 31] = 0x7E
    yield Definition(
        "encode_mx", "001", "every E4M3 value; exponents -127, 127 and NaN as bytes 0, 254 and 255",
        {"elements": elements, "exponent": exponent},
        {"weight": stored_codes, "weight_scale": stored}, {"format": "mxfp8"},
        ("ExhaustiveCodes", "BlockExponent", "NaNPolicy"), _MX8, "math.md 12",
    )  # fmt: skip
    yield Definition(
        "encode_mx", "002", "every E2M1 value, -0 among them (code 8): even element in the low"
        " nibble", {"elements": values, "exponent": f32([[-127], [-126], [127], [np.nan]])},
        {"weight": pairs, "weight_scale": scale}, {"format": "mxfp4"},
        ("ExhaustiveCodes", "NibbleOrder", "SignedZero"), _MX4, "math.md 12",
    )  # fmt: skip


def _rounded_away(value: Fraction) -> float:
    """E4M3 value nearest to one in [0, 448], ties away from zero."""
    exponent = max([e for e in range(-6, 9) if Fraction(2) ** e <= value], default=-6)
    step = Fraction(2) ** (exponent - 3)
    return float(exact.half_away(value / step) * step)


def _mxfp8() -> Iterator[Definition]:
    codes = [Fraction(v) for v in e4m3()[:127]]
    middles = [(a + b) / 2 for a, b in pairwise(codes)]
    ties = np.zeros(5 * 32)
    for at in range(5):
        part = [float(v) for v in middles[31 * at : 31 * at + 31]]
        ties[32 * at : 32 * at + len(part)] = part
        ties[32 * at + 31] = 448  # holds the block's exponent at 0
    signs = np.where(np.arange(160) % 2, -1.0, 1.0)
    rounded = np.array([_rounded_away(Fraction(v)) for v in ties])
    blocks = np.zeros((4, 32))
    blocks[1] = 2.0**-130 * (np.arange(32) % 9 - 8)  # below the least exponent: |x| <= 2^-127
    blocks[2, :3] = (-(2.0**127), 1.5 * 2.0**120, 2.0**110)  # absmax negative
    blocks[3, :2] = (-(2.0**-149), 2.0**-127)
    exponent = [0] * 5 + [-127, -127, 127 - 8, -127]  # of zeros: -134, limited
    elements = [np.zeros(32), blocks[1] * 2.0**127, blocks[2] * 2.0**-119, np.zeros(32)]
    elements[3][:2] = (-0.0, 1.0)
    w = np.concatenate([ties * signs, blocks.ravel()]).astype(np.float32)
    out = np.concatenate([np.where(ties == 0, 0, rounded * signs), *elements]).astype(np.float32)
    yield Definition(
        "quantize_mx", "001", "five blocks with a tie between every two E4M3 magnitudes, away from"
        " zero; zeros, exponent limited to -127; subnormal numbers; -2^127, absmax negative; the"
        " least subnormal, which vanishes", {"w": w.reshape(1, -1)},
        {"elements": out.reshape(1, -1), "exponent": f32([exponent])},
        {"format": "mxfp8", "method": "minmax"},
        ("TieRounding", "BlockExponent", "ZeroRange", "Subnormal", "AbsmaxNegative"), _MX8,
        "math.md 12",
    )  # fmt: skip


def _mxfp4() -> Iterator[Definition]:
    block = np.zeros((5, 32))
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
    up = [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    block[0, :16] = [*ties, *(-v for v in ties), 6.0, -6.0]
    block[1, :16] = block[0, :16] * 2.0**-3
    block[2, :2] = (2.0**126, -(2.0**124))
    block[3, 5] = 2.0**-126  # below 9.6e-7: its exponent is -22 and it vanishes
    elements = np.zeros((5, 32))
    elements[0, :16] = elements[1, :16] = [*up, *(-v for v in up), 6.0, -6.0]
    elements[2, :2] = (4.0, -1.0)
    yield Definition(
        "quantize_mx", "002", "a tie between every two E2M1 magnitudes goes up, in two scales;"
        " 2^126; a number too small for the logarithm and a block of zeros have exponent -22",
        {"w": block.reshape(1, -1).astype(np.float32)},
        {"elements": elements.reshape(1, -1).astype(np.float32),
         "exponent": f32([[0, -3, 124, -22, -22]])},
        {"format": "mxfp4", "method": "minmax"},
        ("TieRounding", "BlockExponent", "ZeroRange", "Subnormal"), _MX4, "math.md 12",
    )  # fmt: skip
    w, out = np.zeros((1, 64), np.float32), np.zeros((1, 64), np.float32)
    w[0, 0], w[0, 32:36] = -4.5, (12.0, 1.0, -3.0, 0.5)
    out[0, 0], out[0, 32:36] = -6.0, (6.0, 0.5, -1.5, 0.5)
    yield Definition(
        "quantize_mx_dualscale", "001", "large blocks of 32: 4.5/6 and 12/6 are divided out, both"
        " maxima become ±6 and the exponents 0; .5/2 = .25 is a tie and goes up", {"w": w},
        {"elements": out, "exponent": f32([[0, 0]]), "dual_scale": f32([[0.75, 2.0]])},
        {"dual_block": 32}, ("BlockExponent", "AbsmaxNegative", "TieRounding"), ("MX-010",),
        "formats.md 5.14",
    )  # fmt: skip


_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def _word(codes: list[int], order: tuple[int, ...] = _ORDER, flip: int = 0) -> int:
    """Nibble i holds column order[i]; as a signed int32."""
    value = sum((codes[c] ^ flip) << 4 * i for i, c in enumerate(order))
    return value - 2**32 if value >= 2**31 else value


def _awq() -> Iterator[Definition]:
    if _word(list(range(8))) != 1966171168:
        raise AssertionError("the worked word of the columns 0..7 is 0x75316420")
    k, n, g = 4, 16, 2
    codes = np.random.RandomState(81).permutation(64).reshape(k, n) % 16  # each code four times
    zeros = np.array([[0, 15, 8, 7, 1, 14, 9, 6] * 2, [15, 0, 7, 8, 3, 12, 5, 10] * 2])
    scales = (np.arange(1, 2 * n + 1).reshape(2, n) / 64).astype(F16)
    words, zero_words = (
        np.array([[_word(row[c : c + 8]) for c in (0, 8)] for row in table.tolist()], np.int32)
        for table in (codes, zeros)
    )
    signed = codes.T - 8  # (n, k)
    packed = (((signed[1::2] & 15) << 4) | (signed[0::2] & 15)).astype(np.uint8).view(np.int8)
    offset = (zeros.T - 8).astype(F16)
    awq: dict[str, Any] = {"qweight": words, "qzeros": zero_words, "scales": scales}
    stored: dict[str, Any] = {"weight": packed, "weight_scale": np.ascontiguousarray(scales.T),
                              "weight_offset": offset}  # fmt: skip
    what = (codes - np.repeat(zeros, g, axis=0)).T * np.repeat(scales.T.astype(float), g, axis=1)
    same = (signed - np.repeat(offset.astype(float), g, axis=1)) * np.repeat(
        scales.T.astype(float), g, axis=1
    )
    if not np.array_equal(what, same):
        raise AssertionError("the two forms do not stand for one weight")
    comment = (
        "k = 4, n = 16, groups of 2; all 16 codes, zero points 0 and 15 among them, no symmetric"
        " word; (code - z)·s and (q - offset)·s are one weight"
    )
    flags = ("NibbleOrder", "NibbleAsymmetry", "PackAxis", "OffsetSign", "GroupIndex")
    sequence = tuple(range(8))
    flipped = [[_word(row[c : c + 8], sequence, 8) for c in (0, 8)] for row in codes.tolist()]
    ascend: dict[str, Any] = {
        "qweight_out": np.array(flipped, np.int32),
        "qzeros_out": (8 - zeros).astype(F16),
    }
    for op, inputs, outputs in (
        ("awq_to_w4a16", awq, stored),
        ("w4a16_to_awq", stored, awq),
        ("awq_to_ascend", awq, ascend),
    ):
        yield Definition(
            op, "001", comment, inputs, outputs, {}, flags, ("W4A16-003", "W4A16-006"),
            "math.md 6.3, 6.5, 6.6",
        )  # fmt: skip


def _fractals() -> Iterator[Definition]:
    nz = np.full((2, 1, 16, 32), -1, np.int8)  # padding that is not zero is not looked at
    weight = np.arange(-128, 128, dtype=np.int8)[:231].reshape(7, 33)
    for i, j in np.ndindex(weight.shape):
        nz[j // 32, 0, i, j % 32] = weight[i, j]
    yield Definition(
        "nz_to_nd", "001", "7 rows, 33 columns out of two fractals whose padding is not zero",
        {"nz": nz}, {"weight": weight}, {"n": 7, "k": 33}, ("TilePadding", "Unaligned"), (),
        "sparse_codec.md 1",
    )  # fmt: skip

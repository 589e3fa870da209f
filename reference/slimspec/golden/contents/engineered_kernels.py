"""Vectors engineered for kernels with weights or accumulators: ends, ties, overflow, subnormals."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from slimspec.golden import exact

from .model import Definition, bits32, f32, i32

F16, BF16 = exact.F16.dtype, exact.BF16.dtype


def cases() -> Iterator[Definition]:
    yield from _epilogues()
    yield from _experts()
    yield from _weights()


def _epilogues() -> Iterator[Definition]:
    acc = i32([[1, -1, 3, 2**24 + 1], [0, 2**31 - 1, -(2**31), 5]])
    scale = bits32(0x00000001, 0x007FFFFF, 0x00800000, 0x80000001)
    yield Definition(
        "dequantize", "023", "subnormal scales as float32: products are rounded to subnormal"
        " numbers, and 2^24 + 1 to 2^24 before it is scaled", {"acc": acc, "deq_scale": scale},
        {"y": exact.mul(exact.cast(acc, exact.F32), scale)}, {"out_dtype": "F32"},
        ("Subnormal", "Past24Bits", "SignedZero"), ("W8A8-008",), "integer_semantics.md B.2",
    )  # fmt: skip
    q = np.tile(np.array([[1, -2, 3, -4]], np.int8), (8, 1))
    sums = (1 - 2 + 3 - 4) * -16  # Σ q·offset
    bias = (np.arange(-4, 4) + 0.5) / 16
    d = f32([0.0625] * 8)  # 1/4 · 1/4
    folded = [Fraction(b) * 16 - sums for b in bias.tolist()]
    yield Definition(
        "fold_w8a8", "005", "bias / deq_scale - Σ q·offset is a tie for every row: to the even"
        " integer",
        {"q": q, "weight_scale": f32([[0.25]] * 8), "input_scale": f32([0.25]),
         "input_offset": f32([-16]), "bias": bias.astype(np.float32)},
        {"deq_scale": d, "quant_bias": i32([exact.half_even(v) for v in folded]),
         "word": d.view(np.int32).astype(np.int64)},
        {"variant": "v1"}, ("BiasFold", "TieRounding"), ("W8A8-012",), "math.md 4.1",
    )  # fmt: skip
    lo, hi = f32(0.0, -3.0, -1e-40, -65504, 0.5), f32(0.0, 1.0, 1e-40, 1.0, 0.75)
    amax = np.maximum(-np.minimum(lo, 0), np.maximum(hi, 0))
    scale = np.maximum(exact.div(amax, 127), np.float32(2.0**-23))
    yield Definition(
        "qparams", "040", "symmetric ranges: zero; largest magnitude negative; subnormal, whose"
        " scale is the least; huge; on one side of zero", {"lo": lo, "hi": hi},
        {"scale": scale, "offset": np.zeros_like(scale)},
        {"bits": 8, "symmetric": True, "variant": "v1"},
        ("ZeroRange", "AbsmaxNegative", "Subnormal", "RangeHoldsZero"), ("W8A8-004", "W8A8-015"),
        "math.md 1.1",
    )  # fmt: skip


def _experts() -> Iterator[Definition]:
    # silu(64) = 64, as e^-64 vanishes beside 1 in float32: the products are exact
    codes = np.concatenate([np.arange(-12, 12), [-1000, -129, -128, 126, 127, 1000]]) + 0.5
    acc = np.concatenate([np.full(codes.size, 64), codes * 2]).astype(np.int32)[None]
    scale = f32([1.0] * codes.size + [2.0**-7] * codes.size)
    yield Definition(
        "dequant_swiglu_quant_static", "002", "the gate is 64 and silu(64) = 64: ties at 24 codes"
        " and past both ends, exact",
        {"acc": acc, "weight_scale": scale, "activation_scale": f32([1.0]),
         "quant_scale": f32([1.0]), "quant_offset": f32([0])},
        {"q": exact.clipped(exact.integers(codes), -128, 127)[None]}, {"activate_left": True},
        ("SaturateThenNarrow", "TieRounding", "MinusOneTwentyEight"), (),
        "integer_semantics.md B.9",
    )  # fmt: skip
    ends = np.array([-1000, -128.5, -127.5, -126.5, -2.5, -0.5, 0.5, 1.5, 126.5, 127.5, 1000])
    once = np.clip(np.array(exact.integers(ends), np.float64), -127, 127)
    partial = np.stack([ends * 2, ends])[:, None]  # two ranks with scales 2 and 1
    total = once * 2 + once
    again = np.clip(np.array(exact.integers(total / 2), np.float64), -127, 127)
    yield Definition(
        "reduce_quantized", "002", "ties and both ends of ±127, two ranks with scales of their own,"
        " twice quantized", {"partial": partial.astype(np.float32),
                             "reduce_scale": f32([[2.0] * 11, [1.0] * 11]),
                             "gather_scale": f32([2.0] * 11)},
        {"y": (again * 2).astype(np.float32)[None]}, {},
        ("SaturateThenNarrow", "SymmetricRange", "TieRounding"), (), "math.md 4.4",
    )  # fmt: skip


def _weights() -> Iterator[Definition]:
    x, w = np.full((2, 32), 127, np.int8), np.full((2, 32), 7, np.int8)
    x[1], w[1] = -128, -8
    scale = f32([[64.0], [0.5]])
    bias = np.array([[8 * 32 * 7 * 64.0], [8 * 32 * -8 * 0.5]], np.float32)
    halves = np.stack([np.full(32, 7), np.full(32, -8)]).astype(np.int8)  # high and low alike
    sums = exact.matmul(halves, w)  # 32·49·64 = 100352 overflows float16
    with np.errstate(over="ignore"):
        half = exact.cast(exact.mul(sums, scale[:, 0]), exact.F16)
    total = exact.add(exact.add(exact.mul(16, half), half), bias[:, 0])
    yield Definition(
        "matmul_w4a8", "006", "a group sum past 65504 is infinite in the float16 accumulator; a"
        " float32 one stays finite; -128 and -8",
        {"x": x, "w": w, "scale": scale, "scale_bias": bias, "pertoken_scale": f32([1.0, 2.0**-6])},
        {"y": exact.cast(exact.mul(total, f32([[1.0], [2.0**-6]])), exact.F32)},
        {"out_dtype": "F32"}, ("Fp16Accumulator", "Fp16Overflow", "MinusOneTwentyEight"),
        ("W4A8-010",), "integer_semantics.md B.8",
    )  # fmt: skip
    four = np.arange(-8, 8, dtype=np.int8)[None]
    tiny = np.array([[2.0**-24, 3 * 2.0**-24, 2.0**-14, 65504]], F16)
    zero = np.array([[0, -8, 7, -7]], F16)
    moved = exact.add(four, np.repeat(zero, 4, axis=1), exact.F16)
    yield Definition(
        "antiquant", "011", "int4 groups of four with subnormal scales, the least normal one and"
        " the largest: results are subnormal or infinite",
        {"w": four, "scale": tiny, "antiquant_offset": zero},
        {"y": exact.mul(moved, np.repeat(tiny, 4, axis=1), exact.F16)}, {"dtype": "F16"},
        ("Subnormal", "Fp16Overflow", "GroupIndex"), ("W4A16-005",), "integer_semantics.md B.6",
    )  # fmt: skip
    random = np.random.RandomState(98)
    x = random.standard_normal((2, 8)).astype(np.float32).astype(BF16)
    w = random.randint(-128, 128, (3, 8)).astype(np.int8)
    w[0, 0], w[1, :2] = -128, (127, -128)
    scale = random.uniform(0.01, 0.02, (3, 2)).astype(np.float32).astype(BF16)
    zero = random.randint(-99, 99, (3, 2)).astype(np.float32).astype(BF16)
    form = exact.BF16
    spread = [np.repeat(v, 4, axis=1) for v in (scale, zero)]
    what = exact.mul(exact.add(w, spread[1], form), spread[0], form)
    y = [
        [_dot(row, column) for column in what.astype(np.float64).tolist()]
        for row in x.astype(np.float64).tolist()
    ]
    summed = exact.cast(np.array(y), exact.F32)
    yield Definition(
        "matmul_weight_only", "002", "bfloat16, groups of four, sum and product of antiquantization"
        " each rounded (w + offset needs nine bits), exact sums rounded to float32, then bfloat16",
        {"x": x, "w": w, "scale": scale, "antiquant_offset": zero},
        {"y": exact.cast(summed, form)}, {"steps": "stepwise"},
        ("AntiquantSteps", "GroupIndex", "ModelDtype", "MinusOneTwentyEight"), ("W8A16-008",),
        "integer_semantics.md B.6",
    )  # fmt: skip


def _dot(x: list[float], w: list[float]) -> float:
    """Σ x·w, exact but for one rounding to float64."""
    return float(sum((Fraction(a) * Fraction(b) for a, b in zip(x, w, strict=True)), Fraction(0)))

"""Vectors engineered to hold what random data miss: ties at every code, near ties, ends, zeros."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .model import Definition, bits32, f32, i8, i32
from .numeric import e4m3

F16 = np.float16
_NEAR = ("ReciprocalScale", "ModelDtype", "TieRounding")
_EVERY = ("TieRounding", "ExhaustiveCodes", "SaturateThenNarrow", "MinusOneTwentyEight")
_HALVES = np.arange(-131.5, 131.5, 0.5)  # every code and every tie, past both ends


def cases() -> Iterator[Definition]:
    yield from _every_code()
    yield from _own_scale()
    yield from _near_ties()
    yield from _asymmetric()
    yield from _fp8()
    yield from _integers()
    yield from _epilogues()
    yield from _casts()


def _every_code() -> Iterator[Definition]:
    comment = "every code and a tie at every code, past both ends; scale {}, offset {}"
    for op, key, scale, offset, attributes, ids in (
        ("quantize", "009", 0.125, -3, {"bits": 8}, ("W8A8-001", "W8A16-004")),
        ("quantize_static", "016", 4.0, 2, {"form": "div"}, ("W8A8-004", "W8A8-006")),
    ):  # fmt: skip
        x = (_HALVES * scale).astype(F16)
        codes = exact.integers(_HALVES + offset)
        yield Definition(
            op, key, comment.format(scale, offset),
            {"x": x, "scale": np.array([scale], F16), "offset": np.array([offset], F16)},
            {"q": exact.clipped(codes, -128, 127)}, attributes, _EVERY, ids, "math.md 1.4",
        )  # fmt: skip
    yield Definition(
        "quantize_heads", "003", comment.format(0.25, 0),
        {"x": (_HALVES * 0.25).astype(F16)[None, None], "scale": f32([[0.25]])},
        {"q": exact.clipped(exact.integers(_HALVES), -128, 127)[None, None]}, {},
        (*_EVERY, "HeadIndex"), ("FA-002", "FA-003"), "math.md 9.2",
    )  # fmt: skip


def _own_scale() -> Iterator[Definition]:
    """Quantizers whose scale comes from the data: 127 makes it 1."""
    x = np.arange(-127, 127.5, 0.5).astype(F16)[None]
    q = exact.clipped(exact.integers(x), -128, 127)
    yield Definition(
        "quantize_dynamic", "009", "absmax 127, scale 1: every code and every tie", {"x": x},
        {"q": q, "scale": f32([1.0])}, {"variant": "golden"}, _EVERY[:2], ("DYN-002",),
        "integer_semantics.md B.5",
    )  # fmt: skip
    x = np.arange(-128, 127.5, 0.5).astype(F16)[None]
    yield Definition(
        "quantize_weight", "021", "range [-128, 127]: scale 255/255 = 1, offset 128 - 128 = 0;"
        " every code and every tie", {"w": x},
        {"q": exact.clipped(exact.integers(x), -128, 127), "scale": np.ones((1, 1), F16),
         "offset": np.zeros((1, 1), F16)},
        {"bits": 8, "symmetric": False, "variant": "v0"}, (*_EVERY[:2], "MinusOneTwentyEight"),
        ("W8A16-002", "W8A16-010"), "math.md 1.1",
    )  # fmt: skip
    w = np.zeros((2, 4), np.float32)
    w[0] = bits32(0x00000001, 0x807FFFFF, 0x00400000, 0)
    w[1] = f32([127, 1e-40, -1e-40, -0.0])
    least = f32([[2.0**-23], [1.0]])
    yield Definition(
        "quantize_weight", "022", "a row of subnormal numbers has the least scale 2^-23; beside"
        " larger weights they become 0", {"w": w},
        {"q": i8([[0, 0, 0, 0], [127, 0, 0, 0]]), "scale": least, "offset": np.zeros_like(least)},
        {"bits": 8, "symmetric": True, "variant": "v1"}, ("Subnormal", "ZeroRange"),
        ("W8A8-019",), "math.md 1.1",
    )  # fmt: skip


def _near(scale: NDArray, top: int = 127) -> NDArray[np.float32]:
    """The float32 next to (c + 1/2)·scale for every fourth code c from -top."""
    steps = np.arange(-top, top, 4) + 0.5
    return (steps * float(scale)).astype(np.float32)


def _near_ties() -> Iterator[Definition]:
    scale = f32([0.0347])
    x = _near(scale[0])
    codes = exact.clipped(exact.integers(exact.div(x, scale)), -128, 127)
    comment = (
        "the float32 next to a tie at every fourth code: one division in float32; a product with"
        " the rounded reciprocal, or arithmetic in float64, moves some across"
    )
    zero = f32([0.0])
    yield Definition(
        "quantize", "010", comment, {"x": x, "scale": scale, "offset": zero}, {"q": codes},
        {"bits": 8}, _NEAR, ("W8A8-001", "W8A16-004"), "math.md 1.4",
    )  # fmt: skip
    yield Definition(
        "quantize_heads", "004", comment, {"x": x[None, None], "scale": scale[None]},
        {"q": codes[None, None]}, {}, _NEAR, ("FA-002", "FA-003"), "math.md 9.2",
    )  # fmt: skip
    product = exact.mul(x, exact.div(1.0, scale))
    yield Definition(
        "quantize_kv", "007", "the float32 next to a tie at every fourth code, times the rounded"
        " reciprocal; a division, or arithmetic in float64, moves some across",
        {"x": x[:, None], "scale": scale, "offset": zero},
        {"q": exact.clipped(exact.integers(product), -128, 127)[:, None]}, {"form": "mul"}, _NEAR,
        ("KV-002", "KV-003", "KV-004"), "integer_semantics.md B.10",
    )  # fmt: skip
    peak = f32([3.1])
    own = exact.mul(peak, exact.div(1.0, 127))
    row = np.append(_near(own[0]), peak)[None]
    codes = exact.clipped(exact.integers(exact.div(row, own)), -128, 127)
    yield Definition(
        "quantize_dynamic", "010", f"{comment}; absmax 3.1", {"x": row},
        {"q": codes, "scale": own}, {"variant": "golden"}, (*_NEAR, "DynamicVariant"), ("DYN-002",),
        "integer_semantics.md B.5",
    )  # fmt: skip


def _asymmetric() -> Iterator[Definition]:
    x = np.arange(-100, 155.5, 0.5).astype(F16)[None]
    yield Definition(
        "quantize_dynamic_asym", "003", "range [-100, 155]: scale 255·fp32(1/255) = 1, offset"
        " 127 - 155 = -28; every code and every tie", {"x": x},
        {"q": exact.clipped(exact.integers(x.astype(np.float64) - 28), -128, 127),
         "scale": f32([1.0]), "offset": f32([-28])},
        {"variant": "golden"}, _EVERY[:2], (), "integer_semantics.md B.5",
    )  # fmt: skip
    least = f32([1e-12])
    yield Definition(
        "quantize_dynamic_asym", "004", "the 910B form of a token of zeros: scale 1e-12, offset"
        " 127, codes 127; the plain form divides by zero", {"x": f32([[0, 0, -0.0, 0]])},
        {"q": i8([[127, 127, 127, 127]]), "scale": least, "offset": f32([127])},
        {"variant": "k910b"}, ("ZeroRange", "DynamicVariant"), (), "integer_semantics.md B.5",
    )  # fmt: skip


def _fp8() -> Iterator[Definition]:
    codes = [Fraction(v) for v in e4m3()[:127]]
    middles = [(a + b) / 2 for a, b in pairwise(codes)]
    w = np.zeros((4, 128), exact.BF16.dtype)
    w[0] = [*map(float, middles), -448.0, 2.0**-130]  # scale 1; absmax negative
    w[2, :5] = (1e-38, -3e-39, 1e-40, -0.0, 0.0)  # a row of subnormal numbers: the least scale
    w[3, :4] = (-3.0, 1.0, 0.1, 2.0**-126)
    peak = np.abs(w.astype(np.float32)).max(axis=1, keepdims=True)
    least = exact.cast(1e-12, exact.BF16).astype(np.float32)
    scale = exact.div(np.maximum(peak, least), 448, exact.BF16)
    moved = exact.div(w, scale, exact.BF16).astype(np.float64) + 0.0  # the sum with 0 makes -0 a 0
    q = [_code(Fraction(min(max(v, -448.0), 448.0)), codes) for v in moved.ravel().tolist()]
    yield Definition(
        "quantize_fp8", "001", "bfloat16 rows: a tie between every two E4M3 magnitudes, to the even"
        " code; zeros; subnormal numbers, whose least scale is 1e-12/448; absmax negative",
        {"w": w},
        {"q": np.array(q, np.uint8).reshape(w.shape), "scale": scale.astype(np.float32)}, {},
        ("TieRounding", "ZeroRange", "Subnormal", "AbsmaxNegative"), ("MX-008", "MX-003"),
        "math.md 12",
    )  # fmt: skip


def _code(value: Fraction, table: list[Fraction]) -> int:
    """Index of the nearest magnitude, ties to the even index; 128 more for negative numbers."""
    found = min(range(len(table)), key=lambda c: (abs(table[c] - abs(value)), c & 1))
    return found + (128 if value < 0 else 0)


def _integers() -> Iterator[Definition]:
    pairs = np.array([[lo, hi] for hi in range(-8, 8) for lo in range(-8, 8)], np.int8)
    w = pairs.reshape(16, 32)
    packed = ((w[:, 1::2].astype(int) & 15) << 4 | w[:, 0::2].astype(int) & 15).astype(np.uint8)
    x = np.random.RandomState(97).randint(-128, 128, (3, 32)).astype(np.int8)
    x[0], x[1] = -128, np.arange(-128, 128, 8)
    yield Definition(
        "matmul_int8_int4", "002", "all 256 pairs of int4 codes times -128, multiples of 8 and"
        " random activations", {"x": x, "w_packed": packed.view(np.int8)},
        {"acc": exact.matmul(x, w)}, {"axis": 1},
        ("ExhaustiveCodes", "MinusOneTwentyEight", "NibbleAsymmetry"), ("W4A16-002",),
        "math.md 6.3",
    )  # fmt: skip
    x, w = w[:3], w[8:11]
    channel, token = f32(0.0123, 0.5, 1e-4), f32(0.31, 2.0, 1e-30)
    bias = f32(0.25, -7, 0)
    scaled = exact.mul(exact.mul(exact.matmul(x, w), channel), token[:, None])
    yield Definition(
        "matmul_w4a4", "002", "three tokens, three rows, a float bias last; one token's scale is"
        " 1e-30", {"x": x, "w": w, "weight_scale": channel, "pertoken_scale": token, "bias": bias},
        {"y": exact.cast(exact.add(scaled, bias), exact.BF16)}, {"out_dtype": "BF16"},
        ("ScaleOrder", "BiasOrder"), ("W4A4-001",), "math.md 6.4",
    )  # fmt: skip
    q = i8([[7, -8, 3, -1] * 8, [-8] * 32])
    second, scale = f32([[15, 1], [9, 14]]), f32([[0.013], [0.77]])
    level = q.astype(np.float64) * np.repeat(second, 16, axis=1)
    rounded = exact.cast(scale, exact.BF16).astype(np.float32)
    terms: Any = exact.mul(level, rounded)
    total = [[sum((Fraction(float(v)) for v in row), Fraction(0)) * 8] for row in terms]
    if any(Fraction(float(np.float32(float(v)))) != v for row in total for v in row):
        raise AssertionError("a sum is not exact in float32")
    yield Definition(
        "scale_bias", "003", "two levels: 8·Σ q·second·bf16(scale), products and sums exact in"
        " float32; a row of -8", {"q": q, "scale": scale, "second": second},
        {"scale_bias": np.array([[float(v) for v in row] for row in total], np.float32)},
        {"name": "mlp.gate_proj", "variant": "v0"},
        ("ScaleBias", "ModelDtype", "NibbleAsymmetry"), ("W4A8-010",), "math.md 5",
    )  # fmt: skip


def _epilogues() -> Iterator[Definition]:
    acc = i32([[2**24 + 1, 2**31 - 1, -(2**31), 2**25 + 3]])
    channel, token = f32(1, 2.0**-7, 0.3, 0.0123), f32([1.0])
    scaled = exact.mul(exact.mul(exact.cast(acc, exact.F32), channel), 1.0)
    yield Definition(
        "dequantize_per_token", "012", "accumulators past 2^24 are rounded to float32 first: 2^24 +"
        " 1 becomes 2^24", {"acc": acc, "weight_scale": channel, "pertoken_scale": token},
        {"y": scaled}, {"out_dtype": "F32"}, ("Past24Bits",), ("DYN-001",),
        "integer_semantics.md B.3",
    )  # fmt: skip
    acc = i32([[2**24 + 1, 2**24 + 3, -(2**24) - 1, 2**31 - 1]]).T.copy()
    # as float32: 2^24, 2^24 + 4, -2^24, 2^31; times 2^-25: .5, .5 + 2^-23, -.5, 64
    yield Definition(
        "requantize", "005", "accumulators past 2^24: 2^24 + 1 becomes 2^24 and with 2^-25 the tie"
        " .5, which goes to 0; exact it would be 1", {"acc": acc, "scale": f32([2.0**-25]),
                                                                  "offset": f32([0])},
        {"q": i8([[0], [1], [0], [64]])}, {}, ("Past24Bits", "TieRounding"), (),
        "integer_semantics.md B.2",
    )  # fmt: skip
    codes: list[int] = []
    scales: list[np.float32] = []
    for code in range(3, 128, 4):  # products beside a tie of float16 that float32 rounds to the tie
        for j in range(1, 64):
            tie = 1 + (2 * j + 1) * 2.0**-11
            near = np.float32(tie / code)
            product = Fraction(code) * Fraction(float(near))
            if product != Fraction(tie) and exact.nearest(product, exact.F32) == Fraction(tie):
                codes.append(code)
                scales.append(near)
                break
    q, scale = i8([codes]), f32(scales)
    yield Definition(
        "dequantize_kv", "006", "products that float32 rounds to a tie of float16: rounded from"
        " float64 about half of them would differ", {"q": q, "scale": scale},
        {"x": exact.cast(exact.mul(q, scale), exact.F16)}, {"dtype": "F16"},
        ("DoubleRounding", "OutputRounding", "ChannelIndex"), ("KV-002",),
        "integer_semantics.md B.10",
    )  # fmt: skip


def _casts() -> Iterator[Definition]:
    x = np.append(f32(0.0, -0.0), bits32(0x00000001, 0x80000001, 0x007FFFFF, 0x33800000))
    yield Definition(
        "cast", "012", "zeros of both signs, subnormal float32, 2^-24: to float16", {"x": x},
        {"y": np.array([0, 0x8000, 0, 0x8000, 0, 1], np.uint16).view(F16)}, {"to": "F16"},
        ("SignedZero", "Subnormal"), (), "integer_semantics.md B.0",
    )  # fmt: skip
    yield Definition(
        "saturate", "007", "NaN becomes 0, infinities the ends",
        {"x": f32(np.nan, np.inf, -np.inf)}, {"q": i8(0, 127, -128)},
        {"low": -128, "high": 127, "nan": 0}, ("NaNPolicy", "SaturateThenNarrow"), (), "math.md 14",
    )  # fmt: skip
    scale = bits32(0x00000001, 0x807FFFFF, 0x80000000, 0x7F800000, 0xFF800000)
    word = np.array([1, 0x807FFFFF - 2**32, -(2**31), 0x7F800000, 0xFF800000 - 2**32], np.int64)
    yield Definition(
        "encode_deq_scale", "002", "subnormal numbers, -0 and infinities: bits, sign-extended",
        {"scale": scale}, {"word": word}, {}, ("DeqScaleWord", "Subnormal", "SignedZero"),
        ("DEQ-001",), "math.md 4.2",
    )  # fmt: skip

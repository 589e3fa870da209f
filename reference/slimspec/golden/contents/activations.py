"""Vectors of activation quantization."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from slimspec.golden import exact

from .model import Definition, bits32, f32, i8

F16 = np.float16
_STATIC = ("W8A8-004", "W8A8-006")


def cases() -> Iterator[Definition]:
    yield from _ranges()
    yield from _static()
    yield from _runtime()
    yield from _dynamic()
    yield from _asymmetric()


def _ranges() -> Iterator[Definition]:
    """Sums of the extrema are exact in float32 and float64; the third of them is not."""
    seen = [[[1.0, -3.5], [0.25, 8.0]], [[5.0, 2.0]], [[0.0, -2.0]]]  # min -3.5 2 -2, max 8 5 0
    for key, tag, method in (("001", "F32", "mean"), ("002", "BF16", "mean64"),
                             ("003", "F16", "extremes")):  # fmt: skip
        form = exact.FORMATS[tag]
        ends: Any = [-3.5, 8.0]
        if method != "extremes":
            ends = exact.div([-3.5, 13.0], 3, form)
        yield Definition(
            "observe_range", key, f"three batches in {tag}, one of them all positive, one never"
            f" above 0: {method} of -3.5, 2, -2 and of 8, 5, 0; no moving average, not widened to"
            " hold 0", {f"x{i}": np.array(x, form.dtype) for i, x in enumerate(seen)},
            {"low": np.array([ends[0]], form.dtype), "high": np.array([ends[1]], form.dtype)},
            {"method": method}, ("ScaleSearch", "RangeHoldsZero"), _STATIC, "math.md 2.1, 2.7",
        )  # fmt: skip


def _static() -> Iterator[Definition]:
    x, scale = np.array([-110.6875], F16), np.array([0.875], F16)
    zero = np.zeros(1, F16)
    yield Definition(
        "quantize_static", "001", "worked: -110.6875/0.875 = -126.5, a tie, goes to -126",
        {"x": x, "scale": scale, "offset": zero}, {"q": i8([-126])}, {"form": "div"},
        ("ReciprocalScale", "TieRounding"), _STATIC, "integer_semantics.md B.4",
    )  # fmt: skip
    yield Definition(
        "quantize_static", "002", "worked: the same x times fp32(1/0.875) lies past the tie: -127",
        {"x": x, "scale": exact.div(1.0, scale), "offset": f32([0])}, {"q": i8([-127])},
        {"form": "mul"}, ("ReciprocalScale",), _STATIC, "integer_semantics.md B.4",
    )  # fmt: skip
    x, scale = np.array([0.8867], F16), np.array([0.0771], F16)
    for key, name, code in (("003", "atb", 1), ("004", "atb_kernel", 0)):
        yield Definition(
            "quantize_static", key, "worked: x/scale = 11.5 in fp16; rounded before the offset"
            " -11 it"
            " is 12 - 11 = 1, added first in fp16 it is rint(0.5) = 0",
            {"x": x, "scale": scale, "offset": np.array([-11], F16)}, {"q": i8([code])},
            {"form": name}, ("OffsetOrder", "TieRounding"), _STATIC, "integer_semantics.md B.4",
            "k310p" if name == "atb_kernel" else "canonical",
        )  # fmt: skip
    yield from _static_ties()
    yield from _static_edges()


def _static_ties() -> Iterator[Definition]:
    half = (np.arange(-132, 133) + 0.5).astype(np.float32)
    for number, (offset, scale32) in enumerate(((0, 0.5), (-128, 1.0), (127, 0.25), (3, 2.0))):
        x = half * np.float32(scale32)
        moved = exact.add(exact.div(x, scale32), offset)
        yield Definition(
            "quantize_static", f"{5 + number:03}", f"a tie at every code with offset {offset}, past"
            " both ends", {"x": x, "scale": f32([scale32]), "offset": f32([offset])},
            {"q": exact.clipped(exact.integers(moved), -128, 127)}, {"form": "div"},
            ("TieRounding", "SaturateThenNarrow", "OffsetSign", "MinusOneTwentyEight"), _STATIC,
            "integer_semantics.md B.4",
        )  # fmt: skip


def _static_edges() -> Iterator[Definition]:
    hard = f32(np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0, 1e-40, 200.0, -200.0)
    yield Definition(
        "quantize_static", "010", "infinities and overflow saturate, NaN becomes 0, ±0 and"
        " subnormals become the offset", {"x": hard, "scale": f32([1.0]), "offset": f32([5])},
        {"q": i8(0, 127, -128, 127, -128, 5, 5, 5, 127, -128)}, {"form": "div"},
        ("NaNPolicy", "SaturateThenNarrow", "SignedZero", "Subnormal"), _STATIC,
        "integer_semantics.md B.4",
    )  # fmt: skip
    yield Definition(
        "quantize_static", "011", "ATB clips at -127 under a switch: low = -127",
        {"x": f32(-200, -128, -127, 127, 200), "scale": f32([1.0]), "offset": f32([0])},
        {"q": i8(-127, -127, -127, 127, 127)}, {"form": "div", "low": -127},
        ("SymmetricRange",), _STATIC, "integer_semantics.md B.4",
    )  # fmt: skip
    # ratios whose float32 quotient and whose product with the rounded reciprocal differ at a tie
    random = np.random.RandomState(11)
    for key, tag in (("012", "F16"), ("013", "BF16"), ("014", "F32")):
        form = exact.FORMATS[tag]
        scale = np.array([0.0347], form.dtype)
        steps = random.randint(-127, 127, 256) + 0.5
        x = (steps * float(scale[0])).astype(np.float32).astype(form.dtype)
        moved = exact.add(exact.div(x, scale), 0)
        yield Definition(
            "quantize_static", key, f"values next to ties in {tag}, one division in float32: a"
            " reciprocal or arithmetic in the model's dtype moves some across",
            {"x": x, "scale": scale, "offset": np.zeros(1, form.dtype)},
            {"q": exact.clipped(exact.integers(moved), -128, 127)}, {"form": "div"},
            ("ReciprocalScale", "ModelDtype"), _STATIC, "integer_semantics.md B.4",
        )  # fmt: skip
    yield _per_channel(random)


def _per_channel(random: np.random.RandomState) -> Definition:
    x = (random.standard_normal((4, 16)) * 3).astype(np.float32)
    scale = (random.uniform(0.01, 0.05, 16)).astype(np.float32)
    offset = random.randint(-30, 30, 16).astype(np.float32)
    moved = exact.add(exact.div(x, scale), offset)
    return Definition(
        "quantize_static", "015", "one scale and offset per channel",
        {"x": x, "scale": scale, "offset": offset},
        {"q": exact.clipped(exact.integers(moved), -128, 127)}, {"form": "div"}, ("ChannelIndex",),
        _STATIC, "integer_semantics.md B.4",
    )  # fmt: skip


def _runtime() -> Iterator[Definition]:
    for key, tag in (("001", "F16"), ("002", "BF16")):
        form = exact.FORMATS[tag]
        stored = f32([0.0123])
        narrow = exact.cast(stored, form)
        yield Definition(
            "runtime_scale", key, f"the loader casts the float32 scale to {tag}, then rounds the"
            " reciprocal once more", {"input_scale": stored, "input_offset": f32([-64])},
            {"reciprocal": exact.div(1.0, narrow, form), "offset": exact.cast(f32([-64]), form)},
            {"model_dtype": tag}, ("ReciprocalScale", "ModelDtype"), _STATIC, "math.md 13.1",
        )  # fmt: skip
    yield Definition(
        "runtime_scale", "003", "a scale of 3e-8 becomes the least fp16 subnormal 2^-24, whose"
        " reciprocal 2^24 is infinite in fp16",
        {"input_scale": f32([3e-8]), "input_offset": f32([0])},
        {"reciprocal": np.array([np.inf], F16), "offset": np.zeros(1, F16)}, {"model_dtype": "F16"},
        ("ReciprocalScale", "Subnormal", "Fp16Overflow"), _STATIC, "math.md 13.1",
    )  # fmt: skip


def _dynamic() -> Iterator[Definition]:
    row = f32([[0.5, -1, 2, -2, 0.0078125, 1.9921875, 0.0236206, -0.01]]).astype(F16)
    for key, variant, seventh in (("001", "golden", 1), ("002", "k310p", 2)):
        yield Definition(
            "quantize_dynamic", key, "worked: one token with absmax 2; fp16 products rounded half"
            " away (310P) turn the seventh code from 1 into 2", {"x": row},
            {"q": i8([[32, -64, 127, -127, 0, 127, seventh, -1]]), "scale": bits32(0x3C810204)},
            {"variant": variant}, ("DynamicVariant", "TieRounding"), ("DYN-002",),
            "integer_semantics.md B.5", "k310p" if variant == "k310p" else "canonical",
        )  # fmt: skip
    x = np.zeros((5, 8), np.float32)
    x[1, 2] = -3.0
    x[2] = f32([127, 0.5, 1.5, -0.5, -1.5, 2.5, -127, 64.5])
    x[3] = f32([1e-38, -1e-38, 5e-39, 0, -0.0, 1e-39, 0, 0])
    x[4] = f32([1e38, -3e38, 1e37, 0, 3e38, 2e38, -1e38, 1])
    third = exact.div(1.0, 127)
    peak = np.abs(x).max(axis=1, keepdims=True)
    scale = exact.mul(peak, third)
    ratio = np.where(peak == 0, np.float32(0), exact.div(x, np.where(peak == 0, 1, scale)))
    yield Definition(
        "quantize_dynamic", "003", "tokens: zeros (scale 0, codes 0); absmax negative; ties;"
        " subnormal; near the largest float32. scale = max·fp32(1/127), q = rint(x/scale)",
        {"x": x}, {"q": exact.clipped(exact.integers(ratio), -128, 127), "scale": scale[:, 0]},
        {"variant": "golden"}, ("ZeroRange", "AbsmaxNegative", "TieRounding", "Subnormal"),
        ("DYN-002",), "integer_semantics.md B.5",
    )  # fmt: skip
    factor = exact.div(127.0, peak[4:])
    codes = exact.clipped(exact.integers(exact.mul(x[4:], factor)), -128, 127)
    yield Definition(
        "quantize_dynamic", "004", "the 910B form: s = 127/max, q = rint(x·s), stored 1/s",
        {"x": x[4:]}, {"q": codes, "scale": exact.div(1.0, factor)[:, 0]}, {"variant": "k910b"},
        ("DynamicVariant", "ReciprocalScale"), ("DYN-002",), "integer_semantics.md B.5",
    )  # fmt: skip
    random = np.random.RandomState(12)
    for key, tag, bits in (
        ("005", "F16", 8),
        ("006", "BF16", 8),
        ("007", "F32", 8),
        ("008", "F16", 4),
    ):
        form, top = exact.FORMATS[tag], 2 ** (bits - 1) - 1
        x = (random.standard_normal((6, 48)) * 4).astype(np.float32).astype(form.dtype)
        peak = np.abs(x.astype(np.float64)).max(axis=1, keepdims=True)
        scale = exact.mul(peak, exact.div(1.0, top))
        codes = exact.clipped(exact.integers(exact.div(x, scale)), -top - 1, top)
        yield Definition(
            "quantize_dynamic", key, f"six tokens in {tag}, int{bits}: float32 arithmetic whatever"
            " the input, exact fractions", {"x": x}, {"q": codes, "scale": scale[:, 0]},
            {"variant": "golden", "bits": bits}, ("DynamicVariant", "ModelDtype"), ("DYN-002",),
            "integer_semantics.md B.5",
        )  # fmt: skip


def _asymmetric() -> Iterator[Definition]:
    yield Definition(
        "quantize_dynamic_asym", "001", "worked: [-1, 3] over 255 steps, offset -64.249985",
        {"x": f32([[-1, 0, 0.5, 3]])},
        {"q": i8([[-128, -64, -32, 127]]), "scale": exact.mul(4.0, exact.div(f32([1.0]), 255)),
         "offset": exact.sub(127, exact.div(f32([3.0]), exact.mul(4.0, exact.div(1.0, 255))))},
        {"variant": "golden"}, ("DynamicVariant",), (), "integer_semantics.md B.5",
    )  # fmt: skip
    x = np.random.RandomState(13).uniform(-1, 5, (3, 24)).astype(np.float32)
    high, low = x.max(axis=1, keepdims=True), x.min(axis=1, keepdims=True)
    scale = exact.mul(exact.sub(high, low), exact.div(1.0, 255))
    offset = exact.sub(127, exact.div(high, scale))
    codes = exact.integers(exact.add(exact.div(x, scale), offset))
    yield Definition(
        "quantize_dynamic_asym", "002", "three tokens by the formula, exact fractions", {"x": x},
        {"q": exact.clipped(codes, -128, 127), "scale": scale[:, 0], "offset": offset[:, 0]},
        {"variant": "golden"}, ("DynamicVariant",), (), "integer_semantics.md B.5",
    )  # fmt: skip

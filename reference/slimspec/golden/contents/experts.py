"""Vectors of the fused expert operators and of quantized communication."""

from collections.abc import Iterator

import numpy as np

from slimspec.golden import exact

from .model import Definition, Tolerance, f32, i8, i32

_WHY = (
    "exp and the reciprocal may each be one unit off, the four products and the sum half a unit:"
    " under 8 units of float32 in the scale, and a code may move where it lies on a tie"
)
_SCALE = Tolerance("ulp", 8, _WHY)
_CODES = Tolerance("codes", 1, _WHY)


def cases() -> Iterator[Definition]:
    acc = i32([[1000, -2000, 300, 4000, 500, 600, -700, 800]])
    channel, token = f32(0.001, 0.002, 0.003, 0.001, 0.004, 0.005, 0.006, 0.007), f32([0.5])
    given = {"acc": acc, "weight_scale": channel}
    tolerance = {"q": _CODES, "scale": _SCALE}
    yield Definition(
        "swiglu_quant", "001", "worked: v = [.5, -2, .45, 2 | 1, 1.5, -2.1, 2.8],"
        " silu(left)·right ="
        " [.31122968, -.3576088, -.57705414, 4.9324636]", {**given, "pertoken_scale": token},
        {"q": i8([[8, -9, -15, 127]]), "scale": f32([0.038838297])}, {},
        ("SwigluHalf", "DynamicVariant"), ("DYN-001",), "integer_semantics.md B.9",
        tolerance=tolerance,
    )  # fmt: skip
    zero = np.zeros((1, 8), np.int32)
    yield Definition(
        "dequant_swiglu_quant_dynamic", "001", "a token of zeros: codes 0 and scale 0",
        {"acc": zero, "weight_scale": channel, "activation_scale": token},
        {"q": np.zeros((1, 4), np.int8), "scale": f32([0])}, {"activate_left": True},
        ("ZeroRange", "SwigluHalf"), ("DYN-001",), "integer_semantics.md B.9", tolerance=tolerance,
    )  # fmt: skip
    yield Definition(
        "dequant_swiglu_quant_dynamic", "002", "the worked token; scale = max/127",
        {**given, "activation_scale": token},
        {"q": i8([[8, -9, -15, 127]]), "scale": exact.div(f32([4.9324636]), 127)},
        {"activate_left": True}, ("SwigluHalf", "DynamicVariant"), ("DYN-001",),
        "integer_semantics.md B.9", tolerance=tolerance,
    )  # fmt: skip
    yield Definition(
        "dequant_swiglu_quant_static", "001", "the worked token with scale 1/8 and offset 3:"
        " [2.49, -2.86, -4.62, 39.5] rint after + 3",
        {**given, "activation_scale": token, "quant_scale": f32([0.125]), "quant_offset": f32([3])},
        {"q": i8([[5, 0, -2, 42]])}, {"activate_left": True}, ("SwigluHalf", "OffsetSign"), (),
        "integer_semantics.md B.9", tolerance={"q": _CODES},
    )  # fmt: skip
    partial = f32([[[1.0, -2.0, 300.0]], [[0.5, 2.0, 300.0]]])
    yield Definition(
        "reduce_quantized", "001", "two ranks, scales 1/2, 1/4 and 2: codes 2 and 1 (.5/.5), -8 and"
        " 8, 127 and 127 (saturated); sums 1.5, 0, 508; gather scales 1/2, 1, 4",
        {"partial": partial, "reduce_scale": f32(0.5, 0.25, 2), "gather_scale": f32(0.5, 1, 4)},
        {"y": f32([[1.5, 0.0, 508.0]])}, {}, ("SaturateThenNarrow", "SymmetricRange"), (),
        "math.md 4.4",
    )  # fmt: skip

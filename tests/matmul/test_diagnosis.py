"""Deliberately wrong kernels are named; right ones are called canonical."""

import ml_dtypes
import numpy as np
import pytest

from slimspec.matmul import (
    antiquant,
    dequantize,
    dequantize_per_token,
    matmul_int8,
    matmul_w4a8,
    quantize_dynamic,
    quantize_static,
    requantize,
    trans_quant_param,
)
from slimspec.matmul.diagnosis import OPS, diagnose
from slimspec.matmul.diagnosis.choices import half_away, toward_zero
from slimspec.matmul.diagnosis.engine import same_bits
from slimspec.pack import pack_int4, unpack_int4

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16
RNG = np.random.default_rng(9)
X = (RNG.normal(size=(64, 96)) * 3).astype(F16)
# half of the codes sit on exact ties for scale 1/4, so that every rounding rule shows
X[:32] = (RNG.integers(-300, 300, (32, 96)) / 8).astype(F16)
QX, QW = (RNG.integers(-128, 128, s, dtype=np.int8) for s in ((16, 96), (48, 96)))
ACC = RNG.integers(-(2**22), 2**22, (64, 48)).astype(np.int32)
SCALE = RNG.uniform(1e-5, 2e-3, 48).astype(F32)
WORDS = SCALE.view(np.uint32).astype(np.int64)
TOKEN = RNG.uniform(1e-2, 1, 64).astype(F32)
BIAS = RNG.integers(-(2**20), 2**20, 48).astype(np.int32)
CODES = RNG.integers(-8, 8, (16, 32), dtype=np.int8)

STATIC = {"x": X, "scale": F32([0.25]), "offset": F32([-11])}
ODD = {"x": X, "scale": F32([0.0771]), "offset": F32([-11])}
# every quotient is an exact tie, which the rounded reciprocal misses on one side or the other
TIES = {"x": ((np.arange(-110, 110) + 0.5) * 0.875).astype(F16), "scale": F32([0.875]),
        "offset": F32([3])}  # fmt: skip
DEQ = {"acc": ACC, "deq_scale": WORDS, "quant_bias": BIAS}
PER_TOKEN = {"acc": ACC, "weight_scale": SCALE, "pertoken_scale": TOKEN, "out_dtype": F32}
REQUANT = {"acc": ACC, "scale": F32([2.0**-13]), "offset": F32([-200])}
W4A8 = {
    "x": QX,
    "w": CODES[:, :24].repeat(4, axis=1),
    "scale": RNG.uniform(0.01, 0.1, (16, 4)).astype(F32),
    "scale_bias": RNG.normal(size=16).astype(F32),
    "pertoken_scale": TOKEN[:16],
}
ANTI = {"w": QW, "scale": SCALE, "antiquant_offset": RNG.normal(size=48).astype(F32)}

CANONICAL = {
    "matmul_int8": ({"x": QX, "w": QW}, matmul_int8),
    "pack_int4": ({"q": CODES}, pack_int4),
    "unpack_int4": ({"packed": pack_int4(CODES)}, unpack_int4),
    "dequantize": (DEQ, dequantize),
    "dequantize_per_token": (PER_TOKEN, dequantize_per_token),
    "requantize": (REQUANT, requantize),
    "trans_quant_param": ({"scale": SCALE, "offset": F32([2.5])}, trans_quant_param),
    "quantize_static": (ODD, quantize_static),
    "quantize_dynamic": ({"x": X}, quantize_dynamic),
    "antiquant": (ANTI, antiquant),
    "matmul_w4a8": (W4A8, matmul_w4a8),
}


def test_every_operation_has_a_canonical_case_here():
    assert set(CANONICAL) == set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_the_reference_itself_is_canonical(op):
    inputs, reference = CANONICAL[op]
    output = reference(**inputs)
    found = diagnose(op, tuple(output) if isinstance(output, tuple) else output, **inputs)
    assert found.best.variant == "canonical"
    assert found.best.share == 1.0
    assert "canonical" in found.verdict()


def f32(x):
    return np.asarray(x, F32)


def reciprocal():
    return clip8(np.rint(f32(TIES["x"]) * (F32(1) / F32(0.875)) + F32(3)))


def clip8(y):
    return np.clip(y, -128, 127).astype(np.int8)


def away(y):
    return np.trunc(y + np.copysign(F32(0.5), y))


def float_acc():
    y = np.zeros((2, 3), F32)
    for k in range(1300):
        y += f32(BIG[:, k, None]) * f32(BIG_W[None, :, k])
    return y.astype(np.int64).astype(np.int32)


BIG, BIG_W = np.full((2, 1300), 127, np.int8), np.full((3, 1300), 127, np.int8)
BIG[:, 0], BIG_W[:, 0] = 1, 1
HUGE = np.full((1, 131072), -128, np.int8)
LARGE = {"acc": ACC, "deq_scale": F32([0.5]), "out_dtype": F16}
FLOAT_Y = ((ACC + BIAS).astype(F32) * (SCALE.view(np.uint32) >> 13 << 13).view(F32)).astype(F32)
SWAPPED = pack_int4(CODES.reshape(16, 16, 2)[:, :, ::-1].reshape(16, 32))
MAXIMAL = np.full((1, 48), 2**31 - 1, np.int32)

WRONG = {
    "reciprocal instead of division": ("quantize_static", reciprocal, TIES),
    "half away from zero": (
        "quantize_static", lambda: clip8(away(f32(X) / F32(0.25) + F32(-11))), STATIC,
    ),
    "truncated toward zero": (
        "quantize_static", lambda: clip8(np.trunc(f32(X) / F32(0.25) + F32(-11))), STATIC,
    ),
    "rounded before the offset": (
        "quantize_static",
        lambda: clip8(np.rint(f32(X) / F32(0.25)) + F32(-11)), STATIC,
    ),
    "wraps instead of saturating": (
        "quantize_static",
        lambda: np.rint(f32(X) / F32(0.25) + F32(-11)).astype(np.int64).astype(np.int8), STATIC,
    ),
    "offset subtracted": (
        "quantize_static", lambda: clip8(np.rint(f32(X) / F32(0.0771) + F32(11))), ODD,
    ),
    "k310p (fp16 divide and add)": (
        "quantize_static",
        lambda: clip8(np.rint(X / F16(0.0771) + F16(-11))),
        {"x": X, "scale": F16([0.0771]), "offset": F16([-11])},
    ),
    "k310p (fp16 product, half away)": (
        "quantize_dynamic", lambda: quantize_dynamic(X, numerics="k310p"), {"x": X},
    ),
    "k910b": ("quantize_dynamic", lambda: quantize_dynamic(X, variant="k910b"), {"x": X}),
    "128 instead of 127": (
        "quantize_dynamic",
        lambda: (
            clip8(np.rint(f32(X) / (peak() * F32(1 / 128)))), (peak() * F32(1 / 128))[:, 0],
        ), {"x": X},
    ),
    "one scale for the whole tensor": (
        "quantize_dynamic",
        lambda: (
            clip8(np.rint(f32(X) / (peak().max() * F32(1 / 127)))),
            np.full(64, peak().max() * F32(1 / 127)),
        ), {"x": X},
    ),
    "nibbles swapped": ("pack_int4", lambda: SWAPPED, {"q": CODES}),
    "offset binary (code + 8)": (
        "pack_int4", lambda: pack_int4(CODES) ^ np.int8(-120), {"q": CODES},
    ),
    "nibble not sign-extended": (
        "unpack_int4", lambda: CODES & np.int8(15), {"packed": pack_int4(CODES)},
    ),
    "FP19 not truncated": (
        "dequantize", lambda: ((ACC + BIAS).astype(F32) * SCALE).astype(F16), DEQ,
    ),
    "bias ignored": (
        "dequantize",
        lambda: (ACC.astype(F32) * (SCALE.view(np.uint32) >> 13 << 13).view(F32)).astype(F16), DEQ,
    ),
    "output truncated toward zero": ("dequantize", lambda: toward_zero(FLOAT_Y, F16), DEQ),
    "fp16 overflow saturates (sat)": (
        "dequantize", lambda: np.clip(f32(ACC) * F32(0.5), -65504, 65504).astype(F16), LARGE,
    ),
    "int32 sum saturates instead of wrapping": (
        "dequantize",
        lambda: np.full((1, 48), 2.0**31, F32),
        {"acc": MAXIMAL, "deq_scale": F32(1), "quant_bias": np.abs(BIAS), "out_dtype": F32},
    ),
    "order of scales: (pertoken·scale)·acc": (
        "dequantize_per_token", lambda: f32(ACC) * (TOKEN[:, None] * SCALE), PER_TOKEN,
    ),
    "order of scales: (acc·pertoken)·scale": (
        "dequantize_per_token", lambda: (f32(ACC) * TOKEN[:, None]) * SCALE, PER_TOKEN,
    ),
    "no 9-bit saturation": (
        "requantize", lambda: clip8(np.rint(f32(ACC) * F32(2.0**-13)) - 200), REQUANT,
    ),
    "bare float32 bits (checkpoint form)": (
        "trans_quant_param", lambda: WORDS.view(np.uint64), {"scale": SCALE},
    ),
    "saturates instead of wrapping": (
        "matmul_int8", lambda: np.int32([[2**31 - 1]]), {"x": HUGE, "w": HUGE},
    ),
    "accumulated in float32": ("matmul_int8", float_acc, {"x": BIG, "w": BIG_W}),
    "x read as unsigned": (
        "matmul_int8",
        lambda: (QX.view(np.uint8).astype(int) @ QW.astype(int).T).astype(np.int32),
        {"x": QX, "w": QW},
    ),
    "rounds once": (
        "antiquant",
        lambda: ((f32(QW) + f32(f16(ANTI["antiquant_offset"]))[:, None])
                 * f32(f16(SCALE))[:, None]).astype(F16), ANTI,
    ),
    "scale_bias missing": (
        "matmul_w4a8", lambda: matmul_w4a8(**{**W4A8, "scale_bias": np.zeros(16, F32)}), W4A8,
    ),
}  # fmt: skip


def peak():
    return np.abs(f32(X)).max(axis=1, keepdims=True)


def f16(x):
    return np.asarray(x).astype(F16)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_kernel_is_named(name):
    op, kernel, inputs = WRONG[name]
    with np.errstate(over="ignore"):
        output = kernel()
    found = diagnose(op, tuple(output) if isinstance(output, tuple) else output, **inputs)
    assert name in [m.variant for m in found.exact], found.verdict()
    assert found.canonical.share < 1
    assert name in found.verdict()
    assert "canonical explains" in found.verdict()


def test_two_deviations_are_named_together():
    y = (ACC.astype(F32) * SCALE).astype(F16)
    found = diagnose("dequantize", y, **DEQ)
    assert found.best.variant == "FP19 not truncated + bias ignored"


def test_an_unknown_kernel_gets_the_nearest_variant_and_a_place():
    output = dequantize(**DEQ)
    output[3, 5] = 0
    found = diagnose("dequantize", output, **DEQ)
    assert found.exact == ()
    assert found.best.variant == "canonical"
    assert found.best.first == (3, 5)
    assert "no known variant" in found.verdict()
    assert "[3, 5]" in found.verdict()


def test_shapes_dtypes_and_names_are_checked():
    with pytest.raises(ValueError, match="dequantize: expected float16"):
        diagnose("dequantize", np.zeros((2, 2), F16), **DEQ)
    with pytest.raises(ValueError, match="op: expected one of"):
        diagnose("softmax", X)


def test_empty_output_follows_the_canonical_form():
    empty = {"acc": ACC[:0], "deq_scale": SCALE}
    assert diagnose("dequantize", np.zeros((0, 48), F16), **empty).best.share == 1.0


def test_zeros_of_either_sign_differ_and_nans_agree():
    left, right = F32([0.0, np.nan, 1]), F32([-0.0, -np.nan, 1])
    assert same_bits(left, right).tolist() == [False, True, True]


@pytest.mark.parametrize("kind", [F16, BF16])
def test_output_casts_by_hand(kind):
    unit = F32(2.0**-10 if kind is F16 else 2.0**-7)
    y = F32([1 + unit / 2, 1 + unit * 0.75, -1 - unit / 2, 1 + unit * 1.5, 0.0])
    assert toward_zero(y, kind).astype(F32).tolist() == [1, 1, -1, 1 + unit, 0]
    assert half_away(y, kind).astype(F32).tolist() == [
        1 + unit, 1 + unit, -1 - unit, 1 + 2 * unit, 0,
    ]  # fmt: skip

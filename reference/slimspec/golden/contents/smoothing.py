"""Vectors of smoothing folds."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from slimspec.golden import exact

from .model import Definition, f32


def cases() -> Iterator[Definition]:
    yield from _folds()
    yield from _norm_kinds()
    yield from _searched()


def _folds() -> Iterator[Definition]:
    random = np.random.RandomState(51)
    number = 1
    for tag in ("F32", "F16", "BF16"):
        form = exact.FORMATS[tag]
        scale = random.uniform(0.1, 9, 16).astype(np.float32).astype(form.dtype)
        norm, bias = (
            random.standard_normal(16).astype(np.float32).astype(form.dtype) for _ in "nb"
        )
        w = random.standard_normal((4, 16)).astype(np.float32).astype(form.dtype)
        tall = np.ascontiguousarray(w.T)
        for variant in ("v0", "v1"):
            reciprocal = exact.div(1.0, scale, form)

            def out(x: Any, s: Any, r: Any, variant: str = variant, form: Any = form) -> Any:
                return exact.div(x, s, form) if variant == "v0" else exact.mul(x, r, form)

            comment = f"in {tag}: v0 divides, v1 multiplies by 1/s that was rounded first"
            yield Definition(
                "fold_norm", f"{number:03}", comment,
                {"weight": norm, "bias": bias, "scale": scale},
                {"weight_out": out(norm, scale, reciprocal),
                 "bias_out": out(bias, scale, reciprocal)},
                {"variant": variant}, ("FoldDirection", "ReciprocalScale", "ModelDtype"), (),
                "math.md 8.1, 8.2",
            )  # fmt: skip
            yield Definition(
                "fold_producer", f"{number:03}", comment,
                {"weight": tall, "bias": bias, "scale": scale},
                {"weight_out": out(tall, scale[:, None], reciprocal[:, None]),
                 "bias_out": out(bias, scale, reciprocal)},
                {"variant": variant}, ("FoldDirection", "ReciprocalScale", "ModelDtype"), (),
                "math.md 8.1, 8.2",
            )  # fmt: skip
            number += 1
        yield Definition(
            "fold_consumer", f"{number // 2:03}", f"columns times their scale, one rounding in"
            f" {tag}",
            {"weight": w, "scale": scale}, {"weight_out": exact.mul(w, scale, form)}, {},
            ("FoldDirection", "ChannelIndex"), (), "math.md 8.1",
        )  # fmt: skip
    a, w = f32(4, 9, 0, 1e-12, 16), f32(1, 4, 1, 1, 0.25)
    yield Definition(
        "smooth_scale", "001", "alpha 1/2: sqrt(a)/sqrt(w) = 2, 1.5, then twice the floor 1e-5, 8;"
        " roots of squares are exact", {"a": a, "w": w},
        {"scale": f32(2, 1.5, 1e-5, 1e-5, 8)}, {"alpha": 0.5}, ("ZeroRange",), (), "math.md 8.0",
    )  # fmt: skip
    weight = f32([[1, 2, -3], [0.5, 0, 4]])
    shift, bias = f32(2, -1, 0.5), f32(10, 20)
    yield Definition(
        "shift_consumer", "001", "bias + shift·Wᵀ on the original weight: -1.5 and 3 are added",
        {"weight": weight, "bias": bias, "shift": shift},
        {"weight_out": weight, "bias_out": f32(8.5, 23)}, {}, ("FoldDirection",), (), "math.md 8.1",
    )  # fmt: skip
    yield Definition(
        "shift_producer", "001", "W / s and (b - shift) / s",
        {"weight": weight, "bias": bias, "shift": f32(2, -4), "scale": f32(2, 0.5)},
        {"weight_out": f32([[0.5, 1, -1.5], [1, 0, 8]]), "bias_out": f32(4, 48)}, {},
        ("FoldDirection",), (), "math.md 8.1",
    )  # fmt: skip


def _norm_kinds() -> Iterator[Definition]:
    """RMSNorm has no bias; a norm with the bias of anti-outlier tools is LayerNorm's arithmetic."""
    gain = np.array([1.0, -0.5, 0.0, -0.0, 65504, 2.0**-24, 3.140625, 1e-4], np.float16)
    scale = np.array([0.3, 7.0, 3.0, 5.0, 0.5, 2.0**-24, 0.7, 1.0], np.float16)
    for key, variant in (("010", "v0"), ("011", "v1")):
        half = exact.F16
        if variant == "v0":
            out = exact.div(gain, scale, half)
        else:
            out = exact.mul(gain, exact.div(1.0, scale, half), half)
        yield Definition(
            "fold_norm", key, "RMSNorm, no bias: zeros of both signs, overflow, and a scale of the"
            " least subnormal, whose reciprocal 2^24 is infinite in float16",
            {"weight": gain, "scale": scale}, {"weight_out": out}, {"variant": variant},
            ("NormKind", "ReciprocalScale", "Fp16Overflow", "SignedZero", "Subnormal"), (),
            "math.md 8.1, 8.3",
        )  # fmt: skip
    added, ones = np.array([0.0, 3.0, -7.0], exact.BF16.dtype), np.ones(3, exact.BF16.dtype)
    scale = np.array([0.3, 0.7, 3.0], exact.BF16.dtype)
    yield Definition(
        "fold_norm", "012", "a norm that got its bias from an anti-outlier tool: the bias is"
        " divided like the weight", {"weight": ones, "bias": added, "scale": scale},
        {"weight_out": exact.div(ones, scale, exact.BF16),
         "bias_out": exact.div(added, scale, exact.BF16)},
        {"variant": "v0"}, ("NormKind", "ModelDtype"), ("NORM-001",), "math.md 8.3",
    )  # fmt: skip
    weight, s = f32([[3, -1], [0, 10]]), f32(3, 7)
    yield Definition(
        "shift_consumer", "002", "a linear without bias gets shift·Wᵀ as its bias: 1 and -10",
        {"weight": weight, "shift": f32(0, -1)}, {"weight_out": weight, "bias_out": f32(1, -10)},
        {}, ("NormKind", "FoldDirection"), (), "math.md 8.1",
    )  # fmt: skip
    yield Definition(
        "shift_producer", "002", "without bias: -shift / s", {"weight": weight,
                                                             "shift": f32(1, -2), "scale": s},
        {"weight_out": exact.div(weight, s[:, None]), "bias_out": exact.div(f32(-1, 2), s)}, {},
        ("NormKind", "FoldDirection"), (), "math.md 8.1",
    )  # fmt: skip
    # the least scales: a zero input channel, a subnormal statistic
    a, w = f32([0.0, 1e-40, 4.0, 9.0]), f32([1.0, 1e-5, 1e-5, 4.0])
    yield Definition(
        "smooth_scale", "002", "alpha 1, beta 0: the statistic itself, never under 1e-5",
        {"a": a, "w": w}, {"scale": f32([1e-5, 1e-5, 4.0, 9.0])}, {"alpha": 1.0, "beta": 0.0},
        ("ZeroRange", "Subnormal"), (), "math.md 8.0",
    )  # fmt: skip


def _searched() -> Iterator[Definition]:
    x = np.append(np.arange(-127, 127.5, 0.5), [-0.0, 2.0**-24]).astype(np.float16)[None]
    codes = np.array(exact.integers(x), np.float64)
    yield Definition(
        "fake_quantize", "001", "max|x| = 127: scale 1; every code, every tie to even, signs of"
        " zeros stay", {"x": x}, {"y": np.copysign(codes, x).astype(np.float16)}, {"scope": "row"},
        ("TieRounding", "SignedZero", "Subnormal", "ExhaustiveCodes"), (), "math.md 8.1",
    )  # fmt: skip
    moved = (np.arange(256) - 100 + 0.5 * (np.arange(256) % 5 == 1)).reshape(4, 64)
    # range 255: scale 1, zero point rint(100) - 128 = -28; rint(x - 28) + 28
    tied = np.array(exact.integers(moved - 28), np.float64) + 28
    yield Definition(
        "fake_quantize", "002", "a tensor of range [-100, 155]: scale 1, zero point -28; every code"
        " once, every fifth a tie", {"x": moved.astype(np.float16)}, {"y": tied.astype(np.float16)},
        {"scope": "tensor"}, ("TieRounding", "ExhaustiveCodes"), (), "math.md 8.1",
    )  # fmt: skip
    z = np.zeros((2, 29), np.float32)
    z[0] = np.arange(-15, 14) / 2
    z[0, 0] = -7.0
    scale = f32([[1.0], [float(exact.div(1e-5, 7))]])
    yield Definition(
        "quantize_flat", "001", "absmax 7 at a negative value: scale 1, a tie at every int4 code; a"
        " row of zeros has scale 1e-5/7", {"x": z}, {"q": _flat(z, scale), "scale": scale},
        {"bits": 4, "signed": True}, ("TieRounding", "AbsmaxNegative", "ZeroRange"), ("W4A4-002",),
        "math.md 11.2",
    )  # fmt: skip


def _flat(x: Any, scale: Any) -> Any:
    whole = np.array(exact.integers(exact.div(x, scale)), np.float64)
    return (np.clip(whole, -8, 7) + 0.0).astype(np.float32)  # the zero point 0 makes -0 a 0

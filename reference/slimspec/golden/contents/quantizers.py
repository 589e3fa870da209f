"""Vectors of weight quantization and of the tensors folded from it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .model import Definition, bits32, f32, i8, i32

_EPS = np.float32(2.0**-23)


def cases() -> Iterator[Definition]:
    yield from _ranges()
    yield from _codes()
    yield from _weights()
    yield from _two_level()
    yield from _folds()


def _params(lo: NDArray, hi: NDArray, form: exact.Format, **a: Any) -> tuple[NDArray, NDArray]:
    """Scale and offset with one exact rounding per operation."""
    low, high = np.minimum(lo.astype(np.float64), 0.0), np.maximum(hi.astype(np.float64), 0.0)
    top = 2 ** (a["bits"] - 1) - 1
    if a["symmetric"]:
        scale = exact.div(np.maximum(-low, high), top, form)
    elif a["variant"] == "v0":
        scale = exact.div(exact.sub(high, low, form), 2 * top + 1, form)
    else:
        scale = exact.sub(
            exact.div(high, 2 * top + 1, form), exact.div(low, 2 * top + 1, form), form
        )
    scale = np.maximum(scale.astype(np.float64), float(_EPS)).astype(form.dtype)
    if a["symmetric"]:
        return scale, np.zeros_like(scale)
    whole = np.array(exact.integers(exact.div(-low, scale, form)), np.float64)
    return scale, exact.sub(whole, top + 1, form)


def _ranges() -> Iterator[Definition]:
    lo, hi = f32([-1.7]), f32([2.9])
    for key, variant, bits in (("001", "v0", 0x3C93C6FB), ("002", "v1", 0x3C93C6FA)):
        scale = bits32(bits)
        offset = _params(lo, hi, exact.F32, bits=8, symmetric=False, variant=variant)[1]
        yield Definition(
            "qparams", key, "one range, two producers: the width is divided (v0), or two quotients"
            " are subtracted (v1); the scales differ in the last bit", {"lo": lo, "hi": hi},
            {"scale": scale, "offset": offset}, {"bits": 8, "symmetric": False, "variant": variant},
            ("ScaleLastBit",), ("W8A8-004", "W8A8-006"), "math.md 1.3",
        )  # fmt: skip
    yield Definition(
        "qparams", "003", "a zero range gives 2^-23, never 0; ranges are widened to hold zero, so"
        " [0.5, 1] counts as [0, 1] and [-1, -0.5] as [-1, 0]",
        {"lo": f32(0.0, 0.5, -1.0), "hi": f32(0.0, 1.0, -0.5)},
        {"scale": np.concatenate([f32([_EPS]), exact.div(f32(1, 1), 255)]),
         "offset": f32(-128, -128, 127)},
        {"bits": 8, "symmetric": False, "variant": "v0"}, ("ZeroRange", "RangeHoldsZero"),
        ("W8A8-004", "W8A8-006"), "math.md 1.1",
    )  # fmt: skip
    random = np.random.RandomState(1)
    a = random.uniform(-3, 3, (2, 48)).astype(np.float32)
    for number, (tag, variant, bits, symmetric) in enumerate(
        (t, v, b, s) for t in ("F32", "F16", "BF16") for v in ("v0", "v1") for b in (8, 4)
        for s in (False, True)
    ):  # fmt: skip
        form = exact.FORMATS[tag]
        lo, hi = (np.sort(a, axis=0)[i].astype(form.dtype) for i in (0, 1))
        given = {"bits": bits, "symmetric": symmetric, "variant": variant}
        scale, offset = _params(lo, hi, form, **given)
        yield Definition(
            "qparams", f"{10 + number:03}",
            f"48 ranges in {tag}: every operation is rounded once to {tag} (exact fractions)",
            {"lo": lo, "hi": hi}, {"scale": scale, "offset": offset}, given, ("ModelDtype",),
            ("W8A8-004", "W8A8-006"), "math.md 1.1, 1.2, 1.8",
        )  # fmt: skip


def _quantized(x: Any, scale: Any, offset: Any, form: exact.Format, bits: int) -> NDArray[np.int8]:
    moved = exact.add(exact.div(x, scale, form), offset, form)
    top = 2 ** (bits - 1) - 1
    return exact.clipped(exact.integers(moved), -top - 1, top)


def _codes() -> Iterator[Definition]:
    ties = (np.arange(-130, 131) + 0.5).astype(np.float32)
    for key, scale, offset in (("001", 1.0, 0.0), ("002", 0.25, 0.0), ("003", 2.0, 7.0)):
        x: NDArray = ties * np.float32(scale)
        s, z = f32([scale]), f32([offset])
        yield Definition(
            "quantize", key, "a tie between every two int8 codes, past both ends: power-of-two"
            " scale,"
            " so x/scale is exact", {"x": x, "scale": s, "offset": z},
            {"q": _quantized(x, s, z, exact.F32, 8)}, {"bits": 8},
            ("TieRounding", "SaturateThenNarrow"), ("W8A8-001", "W8A16-004"), "math.md 1.4",
        )  # fmt: skip
    yield from _rounded_codes()
    yield from _all_codes()


def _rounded_codes() -> Iterator[Definition]:
    x = (np.arange(-10, 10) + 0.5).astype(np.float32)
    yield Definition(
        "quantize", "004", "a tie between every two int4 codes, past both ends",
        {"x": x, "scale": f32([1.0]), "offset": f32([0.0])},
        {"q": _quantized(x, 1.0, 0.0, exact.F32, 4)}, {"bits": 4},
        ("TieRounding", "SaturateThenNarrow"), ("W4A16-005",), "math.md 1.4",
    )  # fmt: skip
    x = np.array([-2.828125], exact.BF16.dtype)
    scale: NDArray = np.array([0.022216796875], exact.BF16.dtype)
    yield Definition(
        "quantize", "005", "bf16: x/scale = -127.3 rounds to -127.5 in bf16 and then to -128, which"
        " float32 arithmetic never reaches from a symmetric range",
        {"x": x, "scale": scale, "offset": np.zeros(1, exact.BF16.dtype)}, {"q": i8([-128])},
        {"bits": 8}, ("ModelDtype", "MinusOneTwentyEight"), ("W8A8-002",), "math.md 1.5",
    )  # fmt: skip
    random = np.random.RandomState(2)
    for key, tag in (("006", "F32"), ("007", "F16"), ("008", "BF16")):
        form = exact.FORMATS[tag]
        x = (random.standard_normal(192) * 2).astype(np.float32).astype(form.dtype)
        scale, offset = (np.array([v], form.dtype) for v in (0.0231, 9))
        yield Definition(
            "quantize", key, f"quotient and sum are each rounded to {tag} before rint: exact"
            " fractions", {"x": x, "scale": scale, "offset": offset},
            {"q": _quantized(x, scale, offset, form, 8)}, {"bits": 8}, ("ModelDtype",),
            ("W8A16-004",), "math.md 1.8",
        )  # fmt: skip


def _all_codes() -> Iterator[Definition]:
    every = np.arange(-128, 128, dtype=np.int8).reshape(2, 128)
    for key, tag in (("001", "F32"), ("002", "F16"), ("003", "BF16")):
        form = exact.FORMATS[tag]
        scale, offset = np.array([[0.0123], [3.0]], form.dtype), np.array([[-7], [100]], form.dtype)
        shifted = exact.sub(every, offset, form)
        yield Definition(
            "dequantize_weight", key, "all int8 codes: (q - offset)·scale with the offset"
            " subtracted,"
            f" two roundings in {tag}", {"q": every, "scale": scale, "offset": offset},
            {"w": exact.mul(shifted, scale, form)}, {}, ("ExhaustiveCodes", "OffsetSign"),
            ("W8A16-002", "W8A16-004"), "math.md 1.4",
        )  # fmt: skip
    four = np.arange(-8, 8, dtype=np.int8).reshape(1, 16)
    scale, offset = f32([[0.5, 3.0, 0.1, 7.0]]), f32([[0, -8, 7, 1]])
    wide = np.repeat(scale, 4, axis=1), np.repeat(offset, 4, axis=1)
    yield Definition(
        "dequantize_weight", "004", "all int4 codes in four groups of four, each with its own scale"
        " and offset", {"q": four, "scale": scale, "offset": offset},
        {"w": exact.mul(exact.sub(four, wide[1]), wide[0])}, {},
        ("ExhaustiveCodes", "GroupIndex", "OffsetSign"), ("W4A16-005", "W4A16-006"), "math.md 1.6",
    )  # fmt: skip


def _weights() -> Iterator[Definition]:
    w = f32([[1, -2, 0.5, 0.25], [0.3, 0.6, -0.9, 1.2]])
    scale = exact.div(f32([[2.0], [1.2]]), 127)
    yield Definition(
        "quantize_weight", "001", "worked weight: scales .015748031 and .009448819", {"w": w},
        {"q": i8([[64, -127, 32, 16], [32, 64, -95, 127]]), "scale": scale,
         "offset": np.zeros((2, 1), np.float32)},
        {"bits": 8, "symmetric": True, "variant": "v1"}, ("AbsmaxNegative",),
        ("W8A8-015", "W8A8-019", "DYN-001", "DYN-007"), "math.md 14",
    )  # fmt: skip
    hard = np.zeros((6, 8), np.float32)
    hard[1] = -f32([8, 7, 6, 5, 4, 3, 2, 1])  # absmax at a negative value
    hard[2, 3] = 1e-30  # below the smallest scale
    hard[3] = 5.0  # constant: asymmetric ranges hold zero
    hard[4] = f32([127, 0.5, 1.5, -0.5, -127, 2.5, 3.5, -1.5])  # ties at scale 1
    hard[5] = f32([1e30, -1e30, 1e-30, 0, -0.0, 1e29, 3.9e27, 4e27])
    number = 2
    for bits in (8, 4):
        for symmetric in (True, False):
            for variant in ("v0", "v1"):
                given = {"bits": bits, "symmetric": symmetric, "variant": variant}
                lo, hi = hard.min(axis=1, keepdims=True), hard.max(axis=1, keepdims=True)
                s, z = _params(lo, hi, exact.F32, **given)
                yield Definition(
                    "quantize_weight", f"{number:03}",
                    "rows: zeros; absmax negative; below the smallest scale; constant; ties; huge",
                    {"w": hard},
                    {"q": _quantized(hard, s, z, exact.F32, bits), "scale": s, "offset": z}, given,
                    ("ZeroRange", "AbsmaxNegative", "TieRounding", "RangeHoldsZero"),
                    ("W8A16-002", "W8A16-003", "W8A16-010") if bits == 8 else ("W4A16-005",),
                    "math.md 1.1, 1.2",
                )  # fmt: skip
                number += 1
    grouped = np.random.RandomState(3).standard_normal((2, 96)).astype(np.float32)
    grouped[0, 32:64] = 0
    groups = grouped.reshape(2, 3, 32)
    lo, hi = groups.min(axis=2), groups.max(axis=2)
    given = {"bits": 4, "symmetric": False, "variant": "v0"}
    s, z = _params(lo, hi, exact.F32, **given)
    q = _quantized(groups, s[..., None], z[..., None], exact.F32, 4).reshape(2, 96)
    yield Definition(
        "quantize_weight", "020", "three groups of 32 in a row, one of them all zeros: its scale is"
        " 2^-23 and its codes are the offset", {"w": grouped},
        {"q": q, "scale": s, "offset": z}, {**given, "granularity": "group", "group_size": 32},
        ("GroupIndex", "ZeroRange"), ("W4A16-006", "W4A16-008", "W8A16-008"), "math.md 1.6",
    )  # fmt: skip


def _two_level() -> Iterator[Definition]:
    yield Definition(
        "quantize_two_level", "001", "worked: s1 = .01, q8 = [119,-50,33,7,2,-10,60,90],"
        " s2 = [17,13]; dequantized 1.19 -.51 .34 0 0 -.13 .65 .91",
        {"w": f32([[1.19, -0.5, 0.33, 0.07, 0.02, -0.1, 0.6, 0.9]])},
        {"q": i8([[7, -3, 2, 0, 0, -1, 5, 7]]), "scale": exact.div(f32([[1.19]]), 119),
         "second": f32([[17, 13]])},
        {"group_size": 4}, ("TwoLevelBound",), ("W4A8-003", "W4A8-004", "W4A8-007"), "math.md 14",
    )  # fmt: skip
    w = f32([[119, 10, -10, 3], [0, 0, 0, 0], [-119, 0, 0, 0]])
    yield Definition(
        "quantize_two_level", "002", "groups of 2: 119/7 = 17; 10/7 rounds to 1, so -10"
        " saturates at"
        " -8 and 10 at 7; a zero row has scale 0 and second 1; a zero group second 1", {"w": w},
        {"q": i8([[7, 1, -8, 3], [0, 0, 0, 0], [-7, 0, 0, 0]]), "scale": f32([[1], [0], [1]]),
         "second": f32([[17, 1], [1, 1], [17, 1]])},
        {"group_size": 2}, ("TwoLevelBound", "ZeroRange", "SaturateThenNarrow"),
        ("W4A8-004", "W4A8-007", "W4A8-008"), "math.md 5",
    )  # fmt: skip


def _folds() -> Iterator[Definition]:
    q = i8([[64, -127, 32, 16], [32, 64, -95, 127]])
    weight_scale, input_scale = exact.div(f32([[2.0], [1.2]]), 127), exact.div(f32([4.0]), 255)
    yield Definition(
        "fold_w8a8", "001", "worked: deq .00024702796 and .00014821677, corrections 960 and -8192,"
        " quant_bias -555 and 6843",
        {"q": q, "weight_scale": weight_scale, "input_scale": input_scale,
         "input_offset": f32([-64]), "bias": f32(0.1, -0.2)},
        {"deq_scale": bits32(0x39818388, 0x391B6AA3), "quant_bias": i32(-555, 6843),
         "word": np.array([964789128, 958098083], np.int64)},
        {"variant": "v1"}, ("DeqScaleWord", "BiasFold"), ("W8A8-010", "W8A8-011", "W8A8-012",
        "DEQ-001", "W8A8-008"), "math.md 14",
    )  # fmt: skip
    q = i8([[127] * 64, [-128] * 64, [0] * 64, [1, -1] * 32])
    sums = [127 * 64, -128 * 64, 0, 0]
    scales = f32([[0.02], [0.01], [0.5], [0.003]])
    for key, tag, variant in (("002", "F32", "v1"), ("003", "BF16", "v1"), ("004", "F32", "v0")):
        form = exact.FORMATS[tag]
        ws, isc = scales.astype(form.dtype), np.array([0.031], form.dtype)
        z = np.array([-128], form.dtype)
        d = exact.mul(isc, ws[:, 0], form)
        bias = np.array([0.5, -3.0, 100.0, 0.0], form.dtype)
        ratio = exact.div(bias, d, exact.F32 if variant == "v0" else form)
        folded = exact.sub(ratio, exact.mul(sums, z))
        deq = d.astype(np.float32)
        yield Definition(
            "fold_w8a8", key, f"offset -128, rows of 127, -128, 0 and ±1, in {tag}: the product and"
            " the quotient are rounded in the dtype of the parameters",
            {"q": q, "weight_scale": ws, "input_scale": isc, "input_offset": z, "bias": bias},
            {"deq_scale": deq, "quant_bias": np.array(exact.integers(folded), np.int32),
             "word": deq.view(np.int32).astype(np.int64)},
            {"variant": variant}, ("BiasFold", "ModelDtype", "MinusOneTwentyEight"),
            ("W8A8-011", "W8A8-012", "W8A8-026"), "math.md 4.1",
        )  # fmt: skip
    q = np.array([[-8] * 32, [7] * 32, [-8, 7] * 16], np.int8)
    scale = f32([[0.5], [0.25], [2.0]])
    chunk = q.astype(np.float64).reshape(3, 16, 2).sum(axis=2) * scale * 8
    for key, name, expected in (
        ("001", "mlp.up_proj", chunk.sum(axis=1, keepdims=True)), ("002", "mlp.down_proj", chunk),
    ):  # fmt: skip
        yield Definition(
            "scale_bias", key, "8·Σ q·scale, exact in float32: one sum for column-parallel names,"
            " 16 sums over blocks of k for row-parallel names", {"q": q, "scale": scale},
            {"scale_bias": expected.astype(np.float32)}, {"name": name, "variant": "v1"},
            ("ScaleBias", "NibbleAsymmetry"), ("W4A8-009", "W4A8-010"), "math.md 5",
        )  # fmt: skip

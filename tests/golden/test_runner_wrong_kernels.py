"""Deliberately wrong kernels, in plain NumPy: each fails its vectors and is named."""

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from slimspec.golden import VectorCase, cases
from slimspec.golden.compare import compare
from slimspec.golden.runner import Result, diagnosis

Kernel = Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], Any]
F32 = np.float32
DTYPES = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32}


def clip8(x: Any, low: int = -128, high: int = 127) -> np.ndarray:
    return np.clip(np.nan_to_num(x, nan=0.0), low, high).astype(np.int8)


def half_away(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.floor(np.abs(x.astype(np.float64)) + 0.5)


def floats(t: Mapping[str, np.ndarray], *names: str) -> list[np.ndarray]:
    return [t[name].astype(F32) for name in names]


def bounds(a: Mapping[str, Any]) -> tuple[int, int]:
    return a.get("low", -128), a.get("high", 127)


# quantize_static: the right form is clip(rint(x/scale + offset))


def reciprocal(t: Any, a: Any) -> Any:
    x, scale, offset = floats(t, "x", "scale", "offset")
    return clip8(np.rint(x * (F32(1) / scale) + offset), *bounds(a))


def rounds_half_away(t: Any, a: Any) -> Any:
    x, scale, offset = floats(t, "x", "scale", "offset")
    return clip8(half_away(x / scale + offset), *bounds(a))


def wraps(t: Any, a: Any) -> Any:
    x, scale, offset = floats(t, "x", "scale", "offset")
    whole = np.nan_to_num(np.rint(x / scale + offset), posinf=2.0**62, neginf=-(2.0**62))
    low, high = bounds(a)
    return ((whole.astype(np.int64) - low) % (high - low + 1) + low).astype(np.int8)


def subtracts_offset(t: Any, a: Any) -> Any:
    x, scale, offset = floats(t, "x", "scale", "offset")
    return clip8(np.rint(x / scale - offset), *bounds(a))


def symmetric_range(t: Any, a: Any) -> Any:
    x, scale, offset = floats(t, "x", "scale", "offset")
    return clip8(np.rint(x / scale + offset), -127, 127)


# packing


def nibbles_swapped(t: Any, a: Any) -> Any:
    q = np.moveaxis(t["q"], a["axis"], -1).astype(np.uint8) & 15
    return np.moveaxis((q[..., 0::2] << 4 | q[..., 1::2]).view(np.int8), -1, a["axis"])


def offset_binary(t: Any, a: Any) -> Any:
    q = (np.moveaxis(t["q"], a["axis"], -1) + 8).astype(np.uint8)
    return np.moveaxis((q[..., 1::2] << 4 | q[..., 0::2]).view(np.int8), -1, a["axis"])


def not_sign_extended(t: Any, a: Any) -> Any:
    byte = np.moveaxis(t["packed"], a["axis"], -1).view(np.uint8)
    both = np.stack([byte & 15, byte >> 4], axis=-1).reshape(*byte.shape[:-1], -1)
    return np.moveaxis(both.astype(np.int8), -1, a["axis"])


# dequantize


def read_words(scale: np.ndarray, mask: int = 0xFFFFE000) -> np.ndarray:
    if scale.dtype.kind == "f":
        return scale
    return (scale.astype(np.uint64) & np.uint64(mask)).astype(np.uint32).view(F32)


def dequantized(t: Any, a: Any, scale: np.ndarray, cast: Callable | None = None) -> Any:
    bias = t.get("quant_bias", np.zeros(1, np.int32))
    whole = bias if bias.dtype == np.int32 else np.zeros(1, np.int32)
    y = (t["acc"] + whole).astype(F32) * scale
    y = y if bias.dtype == np.int32 else y + bias
    return y.astype(DTYPES[a["out_dtype"]]) if cast is None else cast(y, DTYPES[a["out_dtype"]])


def fp19_not_truncated(t: Any, a: Any) -> Any:
    return dequantized(t, a, read_words(t["deq_scale"], 0xFFFFFFFF))


def output_truncated(t: Any, a: Any) -> Any:
    def cast(y: np.ndarray, dtype: Any) -> np.ndarray:
        near = y.astype(dtype)
        if dtype == F32:
            return near
        bits = near.view(np.uint16)
        return (
            np.where(np.abs(near.astype(F32)) > np.abs(y), bits - 1, bits)
            .astype(np.uint16)
            .view(dtype)
        )

    return dequantized(t, a, read_words(t["deq_scale"]), cast)


def bias_in_float32(t: Any, a: Any) -> Any:
    bias = t.get("quant_bias", np.zeros(1, np.int32))
    y = (t["acc"].astype(F32) + bias.astype(F32)) * read_words(t["deq_scale"])
    return y.astype(DTYPES[a["out_dtype"]])


def bias_ignored(t: Any, a: Any) -> Any:
    y = t["acc"].astype(F32) * read_words(t["deq_scale"])
    return y.astype(DTYPES[a["out_dtype"]])


# per token, requantize, words


def order_of_scales(t: Any, a: Any) -> Any:
    y = t["acc"].astype(F32) * (t["pertoken_scale"][:, None] * t["weight_scale"])
    return (y + t["bias"] if "bias" in t else y).astype(DTYPES[a["out_dtype"]])


def requantized(t: Any, nine: Callable) -> Any:
    scale, offset = read_words(t["scale"]), t.get("offset")
    if offset is None:
        word = (t["scale"] >> np.uint64(37)).astype(np.int64) & 511
        offset = np.where(word > 255, word - 512, word).astype(F32)
    y = nine(np.rint(t["acc"].astype(F32) * scale))
    return clip8(y + np.rint(offset))


def no_nine_bits(t: Any, a: Any) -> Any:
    return requantized(t, lambda y: y)


def bit_46_missing(t: Any, a: Any) -> Any:
    bits = t["scale"].view(np.uint32).astype(np.uint64) & np.uint64(0xFFFFE000)
    if "offset" not in t:
        return bits
    nine = np.clip(np.rint(t["offset"]), -256, 255).astype(np.int64) & 511
    return bits | nine.astype(np.uint64) << np.uint64(37)


# matmul


def float32_accumulator(t: Any, a: Any) -> Any:
    out = np.zeros((t["x"].shape[0], t["w"].shape[0]), F32)
    for k in range(t["x"].shape[1]):
        out += t["x"][:, k : k + 1].astype(F32) * t["w"][:, k].astype(F32)
    return (out.astype(np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def saturating_accumulator(t: Any, a: Any) -> Any:
    acc = t["x"].astype(np.int64) @ t["w"].astype(np.int64).T
    return np.clip(acc, -(2**31), 2**31 - 1).astype(np.int32)


def unsigned_activations(t: Any, a: Any) -> Any:
    acc = t["x"].view(np.uint8).astype(np.int64) @ t["w"].astype(np.int64).T
    return (acc & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


# per-token quantization


def one_twenty_eight(t: Any, a: Any) -> Any:
    top = F32(2 ** (a.get("bits", 8) - 1))
    x = t["x"].astype(F32)
    scale = np.abs(x).max(axis=-1, keepdims=True) * (F32(1) / top)
    ratio = np.where(scale == 0, 0, x / np.where(scale == 0, 1, scale))
    return clip8(np.rint(ratio), -int(top), int(top) - 1), scale[..., 0]


def one_scale_for_all(t: Any, a: Any) -> Any:
    top = F32(2 ** (a.get("bits", 8) - 1) - 1)
    x = t["x"].astype(F32)
    scale = np.full((*x.shape[:-1], 1), np.abs(x).max() * (F32(1) / top), F32)
    return clip8(np.rint(x / scale), -int(top) - 1, int(top)), scale[..., 0]


# weight kernels and cache


def antiquant_subtracts(t: Any, a: Any) -> Any:
    dtype = DTYPES[a["dtype"]]
    wide = [
        np.repeat(t[name].astype(F32), t["w"].shape[1] // t[name].shape[1], axis=1)
        for name in ("antiquant_offset", "scale")
    ]
    inner = dtype if a["dtype"] == "F16" else F32
    return ((t["w"].astype(F32) - wide[0]).astype(inner).astype(F32) * wide[1]).astype(dtype)


def w4a8(t: Any, a: Any, shift: int, biased: bool) -> Any:
    x, w, groups = t["x"].astype(int), t["w"].astype(int), t["scale"].shape[1]
    scale = read_words(t["scale"], 0xFFFFFFFF)
    total = {}
    for name, part in (("hi", x >> 4), ("lo", (x & 15) - shift)):
        total[name] = np.zeros((x.shape[0], w.shape[0]), np.float16)
        for g, (xs, ws) in enumerate(
            zip(np.split(part, groups, 1), np.split(w, groups, 1), strict=True)
        ):
            product = ((xs @ ws.T).astype(F32) * scale[:, g]).astype(np.float16)
            total[name] = total[name] + product
    y = F32(16) * total["hi"].astype(F32) + total["lo"].astype(F32)
    y = y + t["scale_bias"].sum(axis=1) if biased else y
    return (y * t["pertoken_scale"][:, None]).astype(DTYPES[a["out_dtype"]])


def low_half_not_shifted(t: Any, a: Any) -> Any:
    return w4a8(t, a, 0, True)


def scale_bias_missing(t: Any, a: Any) -> Any:
    return w4a8(t, a, 8, False)


def cache_adds_offset(t: Any, a: Any) -> Any:
    q, offset = t["q"].astype(F32), t.get("offset", np.zeros(1)).astype(F32)
    return ((q + offset) * t["scale"].astype(F32)).astype(DTYPES[a["dtype"]])


def cache_divides(t: Any, a: Any) -> Any:
    kind = t["x"].dtype if t["x"].dtype == t["scale"].dtype else F32
    x, scale, offset = floats(t, "x", "scale", "offset")
    ratio = (x / scale).astype(kind).astype(F32)
    return clip8(np.rint((ratio + offset).astype(kind).astype(F32)))


WRONG: list[tuple[str, Kernel, str]] = [
    ("quantize_static", reciprocal, "reciprocal instead of division"),
    ("quantize_static", rounds_half_away, "half away from zero"),
    ("quantize_static", wraps, "wraps instead of saturating"),
    ("quantize_static", subtracts_offset, "offset subtracted"),
    ("quantize_static", symmetric_range, "saturates to a symmetric range"),
    ("pack_int4", nibbles_swapped, "nibbles swapped"),
    ("pack_int4", offset_binary, "offset binary (code + 8)"),
    ("unpack_int4", not_sign_extended, "nibble not sign-extended"),
    ("dequantize", fp19_not_truncated, "FP19 not truncated"),
    ("dequantize", output_truncated, "output truncated toward zero"),
    ("dequantize", bias_in_float32, "bias added in float32 before the scale"),
    ("dequantize", bias_ignored, "bias ignored"),
    ("dequantize_per_token", order_of_scales, "order of scales: (pertoken·scale)·acc"),
    ("requantize", no_nine_bits, "no 9-bit saturation"),
    ("trans_quant_param", bit_46_missing, "bit 46 not set"),
    ("matmul_int8", float32_accumulator, "accumulated in float32"),
    ("matmul_int8", saturating_accumulator, "saturates instead of wrapping"),
    ("matmul_int8", unsigned_activations, "x read as unsigned"),
    ("quantize_dynamic", one_twenty_eight, "128 instead of 127"),
    ("quantize_dynamic", one_scale_for_all, "one scale for the whole tensor"),
    ("antiquant", antiquant_subtracts, "offset subtracted"),
    ("matmul_w4a8", low_half_not_shifted, "low half without −8"),
    ("matmul_w4a8", scale_bias_missing, "scale_bias missing"),
    ("dequantize_kv", cache_adds_offset, "offset added"),
    ("quantize_kv", cache_divides, "divides by the scale"),
]


def results(op: str, kernel: Kernel) -> list[Result]:
    return [result(case, kernel) for case in cases(op)]


def result(case: VectorCase, kernel: Kernel) -> Result:
    with np.errstate(all="ignore"):
        made = kernel(case.inputs, case.attributes)
    several = made if isinstance(made, tuple) else (made,)
    found = dict(zip(case.outputs, (np.ascontiguousarray(o) for o in several), strict=True))
    wrong = compare(case.outputs, found, case.tolerance)
    return Result(case, tuple(d.text() for d in wrong), found)


@pytest.mark.parametrize(("op", "kernel", "name"), WRONG, ids=[k.__name__ for _, k, _ in WRONG])
def test_wrong_kernel_fails_and_is_named(op: str, kernel: Kernel, name: str) -> None:
    found = results(op, kernel)
    assert any(not r.passed for r in found)
    sentence = diagnosis(found)[op]
    assert sentence.startswith(f'all elements equal "{name}"'), sentence


def test_right_kernel_gets_no_diagnosis() -> None:
    def right(t: Any, a: Any) -> Any:
        acc = t["x"].astype(np.int64) @ t["w"].astype(np.int64).T
        return (acc & 0xFFFFFFFF).astype(np.uint32).view(np.int32)

    found = results("matmul_int8", right)
    assert all(r.passed for r in found)
    assert diagnosis(found) == {}

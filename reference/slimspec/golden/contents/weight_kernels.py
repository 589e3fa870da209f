"""Vectors of kernels that dequantize weights or split activations."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .model import Definition, f32, i8

F16, BF16 = exact.F16.dtype, exact.BF16.dtype
_W8A16 = ("W8A16-002", "W8A16-004", "W4A16-005")


def cases() -> Iterator[Definition]:
    yield from _antiquant()
    yield from _weight_only()
    yield from _split()
    yield from _w4a8()
    yield from _w4a4()


def _antiquant() -> Iterator[Definition]:
    yield Definition(
        "antiquant", "001", "worked: (-77 + 3)·fp16(0.0123) = -0.91, 0xbb48",
        {"w": i8([[-77]]), "scale": np.array([[0x224C]], np.uint16).view(F16),
         "antiquant_offset": np.array([[3]], F16)},
        {"y": np.array([[0xBB48]], np.uint16).view(F16)}, {"dtype": "F16"}, ("OffsetSign",), _W8A16,
        "integer_semantics.md B.6",
    )  # fmt: skip
    every = np.arange(-128, 128, dtype=np.int8).reshape(2, 128)
    number = 2
    for tag in ("F16", "BF16"):
        form = exact.FORMATS[tag]
        for steps in ("stepwise", "once"):
            scale = exact.cast(np.array([[0.0123], [0.0071]]), form)
            offset = exact.cast(np.array([[0.3], [1.25]]), form)
            inner = form if steps == "stepwise" else exact.F32
            y = exact.cast(exact.mul(exact.add(every, offset, inner), scale), form)
            yield Definition(
                "antiquant", f"{number:03}", f"all int8 codes with a fractional offset in {tag},"
                f" rounded {steps}: exact fractions",
                {"w": every, "scale": scale, "antiquant_offset": offset}, {"y": y},
                {"dtype": tag, "steps": steps}, ("AntiquantSteps", "ExhaustiveCodes", "OffsetSign"),
                _W8A16, "integer_semantics.md B.6",
            )  # fmt: skip
            number += 1
    four = np.tile(np.arange(-8, 8, dtype=np.int8), (1, 2))
    scale, offset = np.array([[0.5, 2.0, 0.25, 3.0]], F16), np.array([[0, 8, -7, 1]], F16)
    wide = [np.repeat(v, 8, axis=1) for v in (scale, offset)]
    yield Definition(
        "antiquant", "010", "int4 codes in four groups of eight", {"w": four, "scale": scale,
        "antiquant_offset": offset},
        {"y": exact.mul(exact.add(four, wide[1], exact.F16), wide[0], exact.F16)},
        {"dtype": "F16"}, ("GroupIndex", "OffsetSign", "NibbleAsymmetry"), _W8A16,
        "integer_semantics.md B.6",
    )  # fmt: skip


def _weight_only() -> Iterator[Definition]:
    x = np.array([[1, -2, 4, 0.5], [0, 0, 0, 0]], F16)
    w = i8([[1, 2, 3, -128], [127, -1, 0, 8]])
    scale, offset = np.array([[0.5], [0.25]], F16), np.array([[0], [-1]], F16)
    what = (w.astype(np.float64) + offset.astype(np.float64)) * scale.astype(np.float64)
    bias = f32(1, -2)
    y = (x.astype(np.float64) @ what.T + bias).astype(F16)
    yield Definition(
        "matmul_weight_only", "001", "every product and sum is exact, so any order of accumulation"
        " gives these bits",
        {"x": x, "w": w, "scale": scale, "antiquant_offset": offset, "bias": bias},
        {"y": y}, {}, ("OffsetSign",), (*_W8A16, "W8A16-006"), "integer_semantics.md B.6",
    )  # fmt: skip


def _split() -> Iterator[Definition]:
    every = np.arange(-128, 128, dtype=np.int8)
    whole = every.tolist()
    yield Definition(
        "split_int8", "001", "all int8: hi = floor(x/16), lo = (x & 15) - 8, x = 16·hi + lo + 8",
        {"x": every}, {"hi": i8([v // 16 for v in whole]), "lo": i8([v % 16 - 8 for v in whole])},
        {}, ("ExhaustiveCodes", "HalfSplit"), ("W4A8-010",), "integer_semantics.md B.8",
    )  # fmt: skip
    yield Definition(
        "split_int8", "002", "worked", {"x": i8(-128, -37, -1, 0, 5, 37, 100, 127)},
        {"hi": i8(-8, -3, -1, 0, 0, 2, 6, 7), "lo": i8(-8, 3, 7, -8, -3, -3, -4, 7)}, {},
        ("HalfSplit",), ("W4A8-010",), "integer_semantics.md B.8",
    )  # fmt: skip


def _w4a8() -> Iterator[Definition]:
    x = i8([[-128, -37, -1, 0, 5, 37, 100, 127]])
    w = i8([[-8, 3], [7, -1], [2, 2], [-5, 4], [1, 1], [0, -3], [6, -8], [-2, 5]]).T.copy()
    scale = f32([[0.5, 0.125], [0.25, 2.0]])
    bias = f32([[-11], [-64]])
    exact_sum = f32([[425.375, -629.25]])
    for key, token, tag in (("001", 1.0, "F32"), ("002", 0.0371, "F16"), ("003", 0.0371, "BF16")):
        y = exact.cast(exact.mul(exact_sum, f32([token])), exact.FORMATS[tag])
        yield Definition(
            "matmul_w4a8", key, "worked: groups of 4, H = [23.25, -43.75], L = [64.375, 134.75],"
            " scale_bias [-11, -64], 16·H + L + bias = [425.375, -629.25]",
            {"x": x, "w": w, "scale": scale, "scale_bias": bias, "pertoken_scale": f32([token])},
            {"y": y}, {"out_dtype": tag}, ("HalfSplit", "ScaleBias", "GroupIndex"),
            ("W4A8-003", "W4A8-010"), "integer_semantics.md B.8",
        )  # fmt: skip
    yield Definition(
        "matmul_w4a8", "004", "the same with scales as words: float32 in the low half, not FP19",
        {"x": x, "w": w, "scale": scale.view(np.uint32).astype(np.int64), "scale_bias": bias,
         "pertoken_scale": f32([1.0])}, {"y": exact_sum}, {"out_dtype": "F32"},
        ("DeqScaleWord", "GroupIndex"), ("W4A8-010",), "integer_semantics.md B.8",
    )  # fmt: skip
    yield _accumulated()


def _accumulated() -> Definition:
    random = np.random.RandomState(31)
    x = random.randint(-128, 128, (4, 64)).astype(np.int8)
    w = random.randint(-8, 8, (6, 64)).astype(np.int8)
    scale: NDArray = random.uniform(0.01, 0.02, (6, 4)).astype(np.float32)
    bias = (8 * (w.astype(np.float64) * np.repeat(scale, 16, axis=1)).sum(axis=1)).astype(
        np.float32
    )
    token = random.uniform(0.01, 0.05, 4).astype(np.float32)
    hi, lo = x.astype(int) // 16, x.astype(int) % 16 - 8
    high, low = (_fp16_groups(v, w, scale) for v in (hi, lo))
    y = exact.add(exact.add(exact.mul(16, high), low), bias)
    return Definition(
        "matmul_w4a8", "005", "four groups accumulated in fp16, one rounding per group: exact"
        " fractions; a float32 accumulator differs",
        {"x": x, "w": w, "scale": scale, "scale_bias": bias[:, None], "pertoken_scale": token},
        {"y": exact.cast(exact.mul(y, token[:, None]), exact.F16)}, {"out_dtype": "F16"},
        ("Fp16Accumulator", "HalfSplit", "GroupIndex"), ("W4A8-010",), "integer_semantics.md B.8",
    )  # fmt: skip


def _fp16_groups(x: NDArray, w: NDArray, scale: NDArray) -> NDArray:
    total = np.zeros((x.shape[0], w.shape[0]), F16)
    size = w.shape[1] // scale.shape[1]
    for g in range(scale.shape[1]):
        span = slice(g * size, (g + 1) * size)
        part = exact.cast(exact.mul(exact.matmul(x[:, span], w[:, span]), scale[:, g]), exact.F16)
        total = exact.add(total, part, exact.F16)
    return total


def _w4a4() -> Iterator[Definition]:
    every = np.arange(-8, 8, dtype=np.int8)
    channel, token = f32([0.0123]), f32([0.31])
    acc = exact.matmul(every[:, None], every[None, :1] * 0 + every[:1, None] * 0 + i8([[7]]))
    tokens = np.repeat(token, 16)
    y = exact.cast(exact.mul(exact.mul(acc, channel), tokens[:, None]), exact.F16)
    yield Definition(
        "matmul_w4a4", "001", "all int4 activations times 7",
        {"x": every[:, None], "w": i8([[7]]), "weight_scale": channel, "pertoken_scale": tokens},
        {"y": y}, {"out_dtype": "F16"}, ("ExhaustiveCodes", "ScaleOrder"), ("W4A4-001", "W4A4-004"),
        "math.md 6.4",
    )  # fmt: skip
    random = np.random.RandomState(32)
    x, w = (random.randint(-8, 8, s).astype(np.int8) for s in ((3, 16), (5, 16)))
    scale = random.uniform(0.01, 0.1, (5, 4)).astype(np.float32)
    offset = random.randint(-8, 8, (5, 4)).astype(np.float32)
    token = random.uniform(0.1, 1, 3).astype(np.float32)
    total = np.zeros((3, 5), np.float32)
    for g in range(4):
        span = slice(4 * g, 4 * g + 4)
        sums = x[:, span].sum(axis=1, dtype=np.int64)[:, None]
        part = exact.sub(exact.matmul(x[:, span], w[:, span]), exact.mul(sums, offset[:, g]))
        total = exact.add(total, exact.mul(part, scale[:, g]))
    yield Definition(
        "matmul_w4a4_group", "001", "four groups with offsets, added in float32 in order",
        {"x": x, "w": w, "scale": scale, "pertoken_scale": token, "offset": offset},
        {"y": exact.cast(exact.mul(total, token[:, None]), exact.F16)}, {"out_dtype": "F16"},
        ("GroupIndex", "OffsetSign"), ("W4A4-002",), "integer_semantics.md B.8",
    )  # fmt: skip

"""Vectors of the integer matmul and its epilogues."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .model import Definition, bits32, f32, i8, i32

SCALE = bits32(0x3C4985F0)  # 0.0123
_DEQ = ("W8A8-008", "W8A8-010", "DEQ-001")


def cases() -> Iterator[Definition]:
    yield from _matmul()
    yield from _dequantize()
    yield from _per_token()
    yield from _requantize()
    yield from _mix()


def _matmul() -> Iterator[Definition]:
    every = np.arange(-128, 128, dtype=np.int8)
    yield Definition(
        "matmul_int8", "001", "every int8 times every int8 (k = 1): Python integers",
        {"x": every[:, None], "w": every[:, None]},
        {"acc": exact.matmul(every[:, None], every[:, None])}, {},
        ("ExhaustiveCodes", "SignExtension", "MinusOneTwentyEight"), ("W8A8-001", "DYN-001"),
        "integer_semantics.md B.0",
    )  # fmt: skip
    random = np.random.RandomState(21)
    for number, (m, n, k) in enumerate(((1, 17, 255), (17, 19, 257), (3, 1, 1), (16, 32, 33))):
        x, w = (random.randint(-128, 128, s).astype(np.int8) for s in ((m, k), (n, k)))
        yield Definition(
            "matmul_int8", f"{2 + number:03}", f"m={m}, n={n}, k={k}: no multiple of a tile",
            {"x": x, "w": w}, {"acc": exact.matmul(x, w)}, {}, ("Unaligned",),
            ("W8A8-001", "DYN-001"), "integer_semantics.md B.0",
        )  # fmt: skip
    k = 1100
    x = np.stack([np.full(k, 127, np.int8), np.full(k, -128, np.int8)])
    w = np.stack([np.full(k, 127, np.int8), np.full(k, -128, np.int8), np.full(k, 127, np.int8)])
    w[2, -1] = 126
    yield Definition(
        "matmul_int8", "006", "sums past 2^24: 127·127·1100 and one product less, which a float32"
        " accumulator cannot tell apart", {"x": x, "w": w}, {"acc": exact.matmul(x, w)}, {},
        ("Past24Bits",), ("W8A8-001",), "integer_semantics.md B.0",
    )  # fmt: skip
    k = 131072 + 64
    x, w = np.full((1, k), -128, np.int8), np.full((1, k), -128, np.int8)
    yield Definition(
        "matmul_int8", "007", "131136·2^14 passes 2^31: the accumulator wraps (status bit 10 says"
        " so); impossible for k up to 131071", {"x": x, "w": w},
        {"acc": i32([[131136 * 16384 - 2**32]])}, {}, ("Past31Bits",), (),
        "integer_semantics.md B.0",
    )  # fmt: skip
    yield Definition(
        "matmul_int8", "008", "k = 0: zeros; m = 0 would be an empty output",
        {"x": np.zeros((2, 0), np.int8), "w": np.zeros((3, 0), np.int8)},
        {"acc": np.zeros((2, 3), np.int32)}, {}, ("Empty",), (), "integer_semantics.md B.0",
    )  # fmt: skip
    x = random.randint(-128, 128, (5, 12)).astype(np.int8)
    w = random.randint(-8, 8, (4, 12)).astype(np.int8)
    low, high = w[:, 0::2].astype(np.uint8) & 15, w[:, 1::2].astype(np.uint8) & 15
    yield Definition(
        "matmul_int8_int4", "001", "weights in pairs along k, even column in the low nibble",
        {"x": x, "w_packed": (low | high << np.uint8(4)).view(np.int8)},
        {"acc": exact.matmul(x, w)},
        {"axis": 1}, ("NibbleOrder", "SignExtension", "NibbleAsymmetry"), ("W4A16-002",),
        "math.md 6.3",
    )  # fmt: skip
    x = random.randint(-128, 128, (7, 9)).astype(np.int8)
    w3 = random.randint(-128, 128, (4, 5, 9)).astype(np.int8)
    counts, owner = [3, 0, 4, 0], [0, 0, 0, 2, 2, 2, 2]
    acc = np.concatenate([exact.matmul(x[i : i + 1], w3[e]) for i, e in enumerate(owner)])
    for key, kind, groups in (("001", "count", counts), ("002", "cumsum", [3, 3, 7, 7])):
        yield Definition(
            "grouped_matmul_int8", key, "four experts, two of them without a token",
            {"x": x, "w": w3, "group_list": np.array(groups, np.int64)}, {"acc": acc},
            {"kind": kind}, ("ExpertIndex", "Empty"), ("DYN-001", "DYN-006"),
            "integer_semantics.md B.3",
        )  # fmt: skip


def _word(scale: NDArray[np.float32]) -> NDArray[np.int64]:
    return scale.view(np.uint32).astype(np.int64)


def _through(acc: NDArray, bias: Any, scale: Any, tag: str) -> NDArray:
    """fp32(acc + bias)·scale in float32, rounded once more to the output: exact fractions."""
    total = (acc.astype(object) + (0 if bias is None else bias.astype(object)) + 2**31) % 2**32
    whole = (total - 2**31).astype(np.float64)
    return exact.cast(exact.mul(exact.cast(whole, exact.F32), scale), exact.FORMATS[tag])


def _dequantize() -> Iterator[Definition]:
    acc = i32([[12345, 7, 16777217, 2**31 - 1]]).T.copy()
    for key, scale, tag, words in (
        ("001", _word(SCALE), "F16", [0x58BF, 0x2D82, None, 0x7C00]),
        ("002", SCALE, "F32", None), ("003", _word(SCALE), "BF16", [0x4318, None, None, 0x4BCA]),
    ):  # fmt: skip
        real = exact.fp19(SCALE) if scale.dtype.kind == "i" else SCALE
        y = _through(acc, None, real, tag)
        for at, bits in enumerate(words or ()):
            if bits is not None and int(y.view(np.uint16)[at, 0]) != bits:
                raise AssertionError(f"dequantize-{key}: worked number {at} is not {bits:#06x}")
        yield Definition(
            "dequantize", key, "worked: 12345, 7, 2^24 + 1 and 2^31 - 1 times 0.0123, as a"
            " word (FP19:"
            " 0.012298584) or as a float; 7 is the first accumulator whose fp16 shows the"
            " truncation; 2^24 + 1 rounds to 2^24 in float32; the last overflows fp16",
            {"acc": acc, "deq_scale": scale}, {"y": y}, {"out_dtype": tag},
            ("Fp19Truncation", "Past24Bits", "Fp16Overflow", "DeqScaleWord"), _DEQ,
            "integer_semantics.md B.2",
        )  # fmt: skip
    yield Definition(
        "dequantize", "004", "the saturating profile: 65504 instead of infinity",
        {"acc": i32([[2**31 - 1, -(2**31)]]).T.copy(), "deq_scale": _word(SCALE)},
        {"y": np.array([[65504], [-65504]], np.float16)}, {"out_dtype": "F16"}, ("Fp16Overflow",),
        _DEQ, "integer_semantics.md B.11", "sat",
    )  # fmt: skip
    yield Definition(
        "dequantize", "005", "worked linear: acc [18256, 928] + quant_bias [-555, 6843], FP19 words"
        " of 0x39818388 and 0x391b6aa3: 4.371 and 1.151 in fp16",
        {"acc": i32([[18256, 928]]), "deq_scale": np.array([964789128, 958098083], np.int64),
         "quant_bias": i32(-555, 6843)},
        {"y": _through(i32([[18256, 928]]), i32(-555, 6843), bits32(0x39818000, 0x391B6000),
                       "F16")},
        {"out_dtype": "F16"}, ("Fp19Truncation", "BiasFold"), (*_DEQ, "W8A8-012"), "math.md 14",
    )  # fmt: skip
    bias = i32(2**31 - 1, -(2**31), 2**24, -1)
    acc = i32([[1, -1, 1, 0], [2**31 - 1, -(2**31), 2**24 + 1, 1]])
    yield Definition(
        "dequantize", "006", "acc + quant_bias wraps in int32 and is exact past 2^24; a sum made in"
        " float32 or saturated differs",
        {"acc": acc, "deq_scale": f32(1, 1, 1, 1), "quant_bias": bias},
        {"y": _through(acc, bias, f32(1, 1, 1, 1), "F32")}, {"out_dtype": "F32"},
        ("BiasWrap", "Past24Bits"), ("W8A8-008",), "integer_semantics.md B.2",
    )  # fmt: skip
    random = np.random.RandomState(22)
    number = 7
    for tag in ("F16", "BF16", "F32"):
        for as_words in (True, False):
            acc = random.randint(-(2**22), 2**22, (12, 16)).astype(np.int32)
            scale = random.uniform(1e-5, 1e-3, 16).astype(np.float32)
            bias = random.randint(-9999, 9999, 16).astype(np.int32)
            real = exact.fp19(scale) if as_words else scale
            yield Definition(
                "dequantize", f"{number:03}", f"192 accumulators to {tag}, scale as"
                f" {'words (FP19)' if as_words else 'float32'}: exact fractions",
                {"acc": acc, "deq_scale": _word(scale) if as_words else scale, "quant_bias": bias},
                {"y": _through(acc, bias, real, tag)}, {"out_dtype": tag},
                ("Fp19Truncation", "OutputRounding", "ChannelIndex"), _DEQ,
                "integer_semantics.md B.2",
            )  # fmt: skip
            number += 1
    # products that are exact ties of fp16: (2j + 1)·2^-11 over [1, 2)
    odd = i32(range(2049, 2049 + 256, 2)).reshape(1, -1).T.copy()
    y = _through(odd, None, f32([2.0**-11]), "F16")
    yield Definition(
        "dequantize", "020", "128 products half way between two fp16 numbers: ties to even",
        {"acc": odd, "deq_scale": f32([2.0**-11])}, {"y": y}, {"out_dtype": "F16"},
        ("OutputRounding", "TieRounding"), _DEQ, "integer_semantics.md B.0",
    )  # fmt: skip
    yield _double_rounding()
    acc, fbias = i32([[100, -100], [3, 7]]), f32(0.1, -1e4)
    y = exact.cast(exact.add(exact.mul(acc, SCALE), fbias), exact.F16)
    yield Definition(
        "dequantize", "021", "a float bias is added after the scale, in float32",
        {"acc": acc, "deq_scale": np.repeat(SCALE, 2), "quant_bias": fbias}, {"y": y},
        {"out_dtype": "F16"}, ("BiasOrder",), (), "integer_semantics.md B.2",
    )  # fmt: skip


def _double_rounding() -> Definition:
    """Products just above a tie of fp16 whose float32 rounding is the tie itself."""
    found: list[tuple[int, np.float32]] = []
    tie = 1.0 + 2.0**-11  # between 1 and its fp16 neighbour; goes down to 1
    for acc in range(1001, 2**20, 2):
        scale = np.float32(tie / acc)
        product = Fraction(acc) * Fraction(float(scale))
        if Fraction(tie) < product and exact.nearest(product, exact.F32) == Fraction(tie):
            found.append((acc, scale))
        if len(found) == 16:
            break
    accs, scales = i32([[a for a, _ in found]]), f32([s for _, s in found])
    return Definition(
        "dequantize", "022", "products just above 1 + 2^-11 that float32 rounds to it, a tie"
        " of fp16:"
        " the result is 1; rounded from float64 it would be 1.0009766",
        {"acc": accs, "deq_scale": scales}, {"y": np.ones((1, 16), np.float16)},
        {"out_dtype": "F16"}, ("DoubleRounding", "OutputRounding"), (), "integer_semantics.md B.2",
    )  # fmt: skip


def _per_token() -> Iterator[Definition]:
    acc, channel, token = i32([[1437821]]), bits32(0x3B8C6746), bits32(0x3D0F5166)
    for key, order, word in (("001", "scale_first", 0x5ABD), ("002", "token_first", 0x5ABC)):
        yield Definition(
            "dequantize_per_token", key, "worked: (acc·scale)·pertoken = 215.56252 gives 215.625,"
            " acc·(pertoken·scale) = 215.5625 is a tie and gives 215.5",
            {"acc": acc, "weight_scale": channel, "pertoken_scale": token},
            {"y": np.array([[word]], np.uint16).view(np.float16)},
            {"order": order, "out_dtype": "F16"}, ("ScaleOrder", "OutputRounding"),
            ("DYN-001", "DYN-002"), "integer_semantics.md B.3",
        )  # fmt: skip
    random = np.random.RandomState(23)
    number = 3
    for tag in ("F16", "BF16", "F32"):
        for order in ("scale_first", "token_first"):
            acc = random.randint(-(2**21), 2**21, (8, 16)).astype(np.int32)
            channel = random.uniform(1e-4, 1e-2, 16).astype(np.float32)
            token = random.uniform(1e-3, 1e-1, 8).astype(np.float32)
            rows = token[:, None]
            if order == "scale_first":
                y = exact.mul(exact.mul(acc, channel), rows)
            else:
                y = exact.mul(acc, exact.mul(rows, channel))
            yield Definition(
                "dequantize_per_token", f"{number:03}", f"128 accumulators to {tag}, {order},"
                f" no FP19"
                " here: exact fractions",
                {"acc": acc, "weight_scale": channel, "pertoken_scale": token},
                {"y": exact.cast(y, exact.FORMATS[tag])}, {"order": order, "out_dtype": tag},
                ("ScaleOrder", "OutputRounding", "ChannelIndex"), ("DYN-001", "DYN-002"),
                "integer_semantics.md B.3",
            )  # fmt: skip
            number += 1
    acc, channel, token = i32([[1000, -1000]]), f32(0.001, 0.002), f32([0.5])
    y = exact.mul(exact.mul(acc, channel), 0.5)
    bias = f32(0.25, -3)
    yield Definition(
        "dequantize_per_token", "010", "a float bias comes last, in float32",
        {"acc": acc, "weight_scale": channel, "pertoken_scale": token, "bias": bias},
        {"y": exact.cast(exact.add(y, bias), exact.F16)}, {"out_dtype": "F16"}, ("BiasOrder",),
        ("W8A8-016",), "integer_semantics.md B.3",
    )  # fmt: skip
    yield Definition(
        "dequantize_per_token", "011", "a token of zeros has scale 0: its outputs are 0, also -0",
        {"acc": i32([[0, 5, -5]]), "weight_scale": f32(1, 1, 1), "pertoken_scale": f32([0.0])},
        {"y": np.array([[0.0, 0.0, -0.0]], np.float16)}, {"out_dtype": "F16"},
        ("ZeroRange", "SignedZero"), ("DYN-002",), "integer_semantics.md B.3",
    )  # fmt: skip


def _requantize() -> Iterator[Definition]:
    acc = i32([[100, 30000, -30000, -4066]]).T.copy()
    scale, offset = f32([0.0625]), f32([-3])
    yield Definition(
        "requantize", "001", "worked: 6.25 -> 6 -> 3; 1875 -> 255 -> 252 -> 127; -1875 -> -256 ->"
        " -259 -> -128; -254.125 -> -254 -> -257 -> -128",
        {"acc": acc, "scale": scale, "offset": offset}, {"q": i8([[3], [127], [-128], [-128]])}, {},
        ("NineBit", "SaturateThenNarrow"), (), "integer_semantics.md B.2",
    )  # fmt: skip
    acc = i32([[5000, -5000, 300, -300, 254, 256]]).T.copy()
    yield Definition(
        "requantize", "002", "offsets of ±200 show the 9-bit intermediate: 5000 - 200 would be 127"
        " without it, 255 - 200 = 55 with it",
        {"acc": acc, "scale": f32([1]), "offset": f32([-200])},
        {"q": i8([[55], [-128], [55], [-128], [54], [55]])}, {}, ("NineBit",), (),
        "integer_semantics.md B.2",
    )  # fmt: skip
    ties = i32(range(-261, 262, 2)).reshape(-1, 1)
    nine = exact.clipped(exact.integers(ties / 2), -256, 255, np.int16)
    q = exact.clipped((nine.astype(int) + 2).tolist(), -128, 127)
    yield Definition(
        "requantize", "003", "a tie at every code (acc odd, scale 1/2) with offset 2.5 -> 2",
        {"acc": ties, "scale": f32([0.5]), "offset": f32([2.5])}, {"q": q}, {},
        ("TieRounding", "NineBit", "SaturateThenNarrow"), (), "integer_semantics.md B.2",
    )  # fmt: skip
    words = np.array([0x40803C498000], np.uint64)
    acc = i32([[1000, 7, -1000, 20000]]).T.copy()
    scaled = exact.mul(acc, exact.fp19(SCALE))
    nine = exact.clipped(exact.integers(scaled), -256, 255, np.int16)
    yield Definition(
        "requantize", "004", "scale and offset (4) out of one word: FP19",
        {"acc": acc, "scale": words},
        {"q": exact.clipped((nine.astype(int) + 4).tolist(), -128, 127)}, {},
        ("DeqScaleWord", "Fp19Truncation", "NineBit"), ("DEQ-001",), "integer_semantics.md B.1",
    )  # fmt: skip


def _mix() -> Iterator[Definition]:
    x = f32([[0.5, -1, 2, 3], [0, 0, 0, 0]]).astype(np.float16)
    w = i8([[64, -127, 32, 16], [32, 64, -95, 127]])
    weight_scale, input_scale = exact.div(f32([[2.0], [1.2]]), 127), exact.div(f32([4.0]), 255)
    bias = f32(0.1, -0.2)
    tensors: dict[str, Any] = {
        "x": x, "weight": w, "input_scale": input_scale, "input_offset": f32([-64]),
        "deq_scale": np.array([964789128, 958098083], np.int64), "quant_bias": i32(-555, 6843),
        "weight_scale": weight_scale, "bias": bias,
    }  # fmt: skip
    codes = i8([[-32, -128, 63, 127], [-64, -64, -64, -64]])
    deq = bits32(0x39818000, 0x391B6000)
    decode = _through(exact.matmul(codes, w), i32(-555, 6843), deq, "F16")
    peak = np.array([[3.0], [0.0]])
    scale = exact.mul(peak, exact.div(1.0, 127))
    q = exact.clipped(exact.integers(exact.div(x[:1], scale[:1])), -128, 127)
    acc = exact.matmul(np.concatenate([q, np.zeros((1, 4), np.int8)]), w)
    scaled = exact.mul(exact.mul(acc, weight_scale[:, 0]), scale)
    prefill = exact.cast(exact.add(scaled, bias), exact.F16)
    for key, phase, y in (("001", "decode", decode), ("002", "prefill", prefill)):
        yield Definition(
            "linear_w8a8_mix", key, "the worked linear in both phases: static with folded bias in"
            " decode, per token with the float bias in prefill; the second token is zeros", tensors,
            {"y": y}, {"phase": phase}, ("MixPhase", "BiasFold", "ZeroRange"),
            ("W8A8-022", "W8A8-023"), "math.md 4.3, 14",
        )  # fmt: skip

"""Vectors of attention: head ranges, FP8 heads, softmax with int8 probabilities, float heads."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .attention import ULP
from .model import Definition, f32, i8
from .numeric import e4m3

F16 = np.float16
_FA = ("FA-002", "FA-003")
_KV = ("KV-002", "KV-003", "KV-004")


def cases() -> Iterator[Definition]:
    yield from _ranges()
    yield from _fp8()
    yield from _int8()
    yield from _float()
    yield from _asymmetric_cache()


def _ranges() -> Iterator[Definition]:
    x = f32([[[1, 2, 100, 3], [-5, -6, -300, -4], [0, 0, 0, 0]]])[..., None]  # [1, 3, 4, 1]
    yield Definition(
        "observe_heads", "001", "three of four samples: the shortest windows are [1, 3] and"
        " [-6, -4], the outliers fall out; scales 3/127 and 6/127; a head of zeros has 2^-23",
        {"x0": x},
        {"low": f32([[1], [-6], [0]]), "high": f32([[3], [-4], [0]]),
         "scale": np.append(exact.div(f32([3, 6]), 127), np.float32(2.0**-23))},
        {"ratio": 0.75, "element": "int8"}, ("HeadIndex", "AbsmaxNegative", "ZeroRange"), _FA,
        "math.md 2.6, 9.2",
    )  # fmt: skip
    y = f32([[[[0.5]], [[-0.5]]], [[[7]], [[-8]]]])  # [2, 2, 1, 1]
    yield Definition(
        "observe_heads", "002", "a batch of two is read as rows of consecutive values: the first"
        " row mixes both heads of the first sample (a defect that files carry); extremes over two"
        " batches", {"x0": y, "x1": np.zeros_like(y)},
        {"low": f32([[-0.5], [-8]]), "high": f32([[0.5], [7]]),
         "scale": exact.div(f32([0.5, 8]), 448)},
        {"ratio": 1.0, "element": "fp8_e4m3"}, ("HeadIndex", "AbsmaxNegative"), _FA,
        "math.md 9.2, 12, 15 D-17",
    )  # fmt: skip


def _nearest_e4m3(values: NDArray) -> NDArray[np.float32]:
    """Value of the nearest E4M3 code, ties to the even code, past ±448 to ±448."""
    table = [Fraction(v) for v in e4m3()[:127]]
    found = []
    for value in values.ravel().tolist():
        size = min(abs(Fraction(value)), Fraction(448))
        code = min(range(127), key=lambda c: (abs(table[c] - size), c & 1))
        found.append(np.copysign(float(table[code]), value))
    return np.array(found, np.float32).reshape(values.shape)


def _fp8() -> Iterator[Definition]:
    x = np.zeros((2, 3, 16), F16)
    x[0, :2] = np.linspace(-9, 9, 32).reshape(2, 16)
    x[0, 2, :6] = (448, -464, 465, 17, -19, -0.0)  # scale 1: past the end, ties of 16 and 18, 20
    x[1, 0] = np.arange(16) * 2.0**-11  # subnormal codes, ties among them
    x[1, 1, 3:5] = (-6.5, 2.0**-24)  # the third token is zeros
    peak = np.abs(x.astype(np.float32)).max(axis=2, keepdims=True)
    token = np.maximum(exact.div(np.maximum(peak, np.float32(1e-12)), 448), 0)
    head = f32([[1.0], [2.0**-2]])
    for key, scale, inputs, comment in (
        ("001", head[:, None], {"scale": head}, "one scale per head: ties, past 448, subnormals"),
        ("002", token, {}, "one scale per token, its own maximum / 448"),
    ):  # fmt: skip
        codes = _nearest_e4m3(exact.div(x, scale))
        yield Definition(
            "round_heads_fp8", key, f"{comment}: nearest E4M3 value by fractions, times the scale",
            {"x": x, **inputs}, {"y": exact.cast(exact.mul(codes, scale), exact.F16)}, {},
            ("HeadIndex", "TieRounding", "SaturateThenNarrow", "Subnormal"), ("FA-003",),
            "math.md 9.2, 12",
        )  # fmt: skip


def softmax_int8(
    scores: NDArray, v: NDArray, v_scale: float, p_scale: float | None, block: int
) -> NDArray[np.float32]:
    """Attention of one head with int8 probabilities, each step rounded once to float32.

    scores [t, s]; v [s, d] int8. Exponentials from 60 decimal digits, sums from fractions.
    """
    rows = []
    for line in scores.tolist():
        peak, total, out = -np.inf, f32([0.0]), np.zeros(v.shape[1], np.float32)
        for start in range(0, len(line), block):
            part = f32(line[start : start + block])
            higher = max(peak, float(part.max()))
            again = exact.exp(exact.sub(f32([peak]), higher)) if peak > -np.inf else f32([0.0])
            p = np.where(np.isneginf(part), 0, exact.exp(exact.sub(part, higher)))
            s = f32([p_scale]) if p_scale is not None else exact.div(p.max(), 127).reshape(1)
            codes = exact.clipped(exact.integers(exact.div(p, s)), -128, 127)
            acc = exact.matmul(codes[None], v[start : start + block].T.copy())[0]
            summed = sum((Fraction(float(x)) for x in p), Fraction(0))
            total = exact.add(exact.mul(total, again), float(summed))
            update = exact.mul(acc, exact.mul(v_scale, s))
            out = exact.add(exact.mul(out, again), update)
            peak = higher
        rows.append(exact.div(out, total))
    return np.stack(rows)


def _int8() -> Iterator[Definition]:
    random = np.random.RandomState(91)
    q, k, v = (random.randint(-128, 128, s).astype(np.int8) for s in ((2, 2, 8), (1, 5, 8),
                                                                      (1, 5, 4)))  # fmt: skip
    q[0, 0, 0], v[0, 0] = -128, (-128, 127, 0, -1)
    scales = {"q_scale": f32(0.011, 0.0047), "k_scale": f32([0.0093]), "v_scale": f32([0.021])}
    mask = f32([[0, 0, 0, 0, -np.inf], [0, 0, 0, 0, 0]])
    offline = f32(1 / 127, 1 / 300)  # of the second head: probabilities past 127/300 saturate
    for key, more, attributes, comment in (
        ("003", {"mask": mask}, {}, "two heads over one, a causal mask, online probabilities"),
        ("004", {"p_scale": offline}, {"block": 2}, "offline probability scales, the second one too"
         " small: P/p_scale saturates at 127; blocks of two keys: a running maximum corrects sums"
         " and outputs"),
    ):  # fmt: skip
        y = []
        for h in range(2):
            qk = exact.mul(scales["q_scale"][h], scales["k_scale"][0])
            s = exact.cast(exact.mul(exact.matmul(q[h], k[0]), qk), exact.F16)
            root = exact.cast(f32([2.0**-1.5]), exact.F16)
            s = exact.mul(s, root, exact.F16).astype(np.float32)
            s = exact.add(s, more["mask"], exact.F16) if "mask" in more else s
            given = float(more["p_scale"][h]) if "p_scale" in more else None
            y.append(softmax_int8(s.astype(np.float32), v[0], float(f32(0.021)), given,
                                  attributes.get("block", 5)))  # fmt: skip
        yield Definition(
            "attention_int8", key, f"{comment}: scores in float16, exponentials from 60 digits,"
            " each step rounded once", {"q": q, "k": k, "v": v, **scales, **more},
            {"y": exact.cast(np.stack(y), exact.F16)}, attributes,
            ("HeadIndex", "MaskInfinity", "ProbabilityScale"), _FA, "math.md 9.2",
            tolerance={"y": ULP},
        )  # fmt: skip
    x = f32([[[np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 127.5, -128.5]]])
    yield Definition(
        "quantize_heads", "002", "NaN becomes 0, infinities saturate, ties at both ends",
        {"x": x, "scale": f32([[1.0]])}, {"q": i8([[[0, 127, -128, 0, 0, 0, 127, -128]]])}, {},
        ("NaNPolicy", "SaturateThenNarrow", "Subnormal"), _FA, "math.md 9.2",
    )  # fmt: skip


def attend(scores: NDArray, v: NDArray) -> NDArray[np.float64]:
    """softmax(scores [t, s])·v [s, d]: exponentials from 60 digits, sums in fractions."""
    out = np.zeros((scores.shape[0], v.shape[1]))
    for i, line in enumerate(scores.astype(np.float64)):
        shifted = exact.sub(line, line.max())
        p = [Fraction(float(x)) for x in np.where(np.isneginf(line), 0, exact.exp(shifted))]
        for j, column in enumerate(v.T.tolist()):
            pairs = zip(p, column, strict=True)
            out[i, j] = float(sum((a * Fraction(b) for a, b in pairs), Fraction(0)) / sum(p))
    return out


def _float() -> Iterator[Definition]:
    q = np.array([[[8, 0]], [[0, -8]], [[0, 0]], [[8, 8]]], F16)
    k = np.array([[[16, 0], [-16, 16], [0, -16]], [[16, 16], [0, 0], [-16, 0]]], F16)
    v = np.array([[[1, -2], [3, 4], [-5, 6]], [[7, 8], [-9, 10], [11, 12]]], F16)
    # scores 128 apart: one key, or two equal ones, take all; heads 0, 1 read the first k, v
    y = np.array([[[1, -2]], [[-5, 6]], [[3, 10]], [[7, 8]]], F16)
    yield Definition(
        "attention_float", "001", "scores at least 64 apart: exp of the others is under 2^-92 and"
        " adds nothing in float32; equal scores give the mean; four heads over two",
        {"q": q, "k": k, "v": v}, {"y": y}, {"softmax_scale": 1.0}, ("HeadIndex",), (),
        "math.md 9.2", tolerance={"y": ULP},
    )  # fmt: skip


def _asymmetric_cache() -> Iterator[Definition]:
    every = np.arange(-128, 128, dtype=np.int8)[:, None]
    scale, offset = np.array([0.0157], F16), np.array([37], F16)
    shifted = exact.sub(every, offset)
    yield Definition(
        "dequantize_kv", "005", "all int8 codes with the offset 37, which is subtracted before the"
        " scale is applied", {"q": every, "scale": scale, "offset": offset},
        {"x": exact.cast(exact.mul(shifted, scale), exact.F16)}, {"dtype": "F16"},
        ("ExhaustiveCodes", "OffsetSign"), _KV, "integer_semantics.md B.10",
    )  # fmt: skip
    half = np.arange(-126, 138, 0.5)[:, None]
    scale, offset = np.array([0.5], F16), np.array([-7], F16)
    x = (half * scale.astype(np.float64)).astype(F16)
    codes = exact.integers(half + offset.astype(np.float64))
    yield Definition(
        "quantize_kv", "006", "every code and a tie at every code with the offset -7, past both"
        " ends", {"x": x, "scale": scale, "offset": offset},
        {"q": exact.clipped(codes, -128, 127)}, {"form": "mul"},
        ("TieRounding", "SaturateThenNarrow", "OffsetSign", "MinusOneTwentyEight"), _KV,
        "integer_semantics.md B.10",
    )  # fmt: skip
    q = np.array([[8, 0], [0, 0]], F16)
    keys: dict[str, Any] = {
        "k_q": i8([[100, -128], [-60, 127], [20, 5]]),
        "k_scale": np.array([0.5, 0.25], F16), "k_offset": np.array([-20, 3], F16),
        "v_q": i8([[127, -128], [0, 7], [-128, 127]]),
        "v_scale": np.array([0.125, 2.0], F16), "v_offset": np.array([-128, 127], F16),
    }  # fmt: skip
    # head 0: scores 8·.5·(k + 20) = 480, -160, 160: the first token; head 1: the mean of v̂
    yield Definition(
        "decode_attention", "002", "an asymmetric cache: v̂ = [31.875, -510], [16, -240], [0, 0];"
        " the first head sees the first token only, the second the mean [15.9583, -250]",
        {"q": q, **keys}, {"y": exact.cast(np.array([[31.875, -510], [47.875 / 3, -250]]),
                                           exact.F16)},
        {"kv_heads": 1, "softmax_scale": 1.0}, ("OffsetSign", "ChannelIndex", "HeadIndex"), _KV,
        "integer_semantics.md B.10", tolerance={"y": ULP},
    )  # fmt: skip

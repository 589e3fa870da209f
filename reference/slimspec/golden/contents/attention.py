"""Vectors of the KV cache and of int8 attention."""

from collections.abc import Iterator

import numpy as np

from slimspec.golden import exact

from .model import Definition, Tolerance, f32, i8

F16 = exact.F16.dtype
_KV = ("KV-002", "KV-003", "KV-004")
_FA = ("FA-002", "FA-003")
ULP = Tolerance(
    "ulp", 1, "float32 sums and exponentials are off by less than 2^-18, far under half a unit of"
    " fp16: the result may fall on the other side of one fp16 rounding",
)  # fmt: skip


def cases() -> Iterator[Definition]:
    yield from _cache()
    yield from _heads()
    yield from _attention()


def _cache() -> Iterator[Definition]:
    x = np.array([[1, -0.3, 0.0777, 2]], F16)
    scale, offset = np.full(4, 0.0157, F16), np.full(4, -4, F16)
    yield Definition(
        "quantize_kv", "001", "worked: scale .0157, offset -4, times the reciprocal in fp16",
        {"x": x, "scale": scale, "offset": offset}, {"q": i8([[60, -23, 1, 123]])}, {"form": "mul"},
        ("OffsetSign", "ReciprocalScale"), _KV, "integer_semantics.md B.10",
    )  # fmt: skip
    q = i8([[60, -23, 1, 123]])
    shifted = exact.sub(q, offset)
    number = 1
    for tag in ("F16", "BF16", "F32"):
        yield Definition(
            "dequantize_kv", f"{number:03}", f"worked: (q - offset)·scale in {tag}; the offset is"
            " subtracted, engines that ignore or add it differ",
            {"q": q, "scale": scale, "offset": offset},
            {"x": exact.cast(exact.mul(shifted, scale), exact.FORMATS[tag])},
            {"dtype": tag, "rule": "canonical"}, ("OffsetSign",), _KV, "integer_semantics.md B.10",
        )  # fmt: skip
        number += 1
    every = np.arange(-128, 128, dtype=np.int8).reshape(-1, 1)
    yield Definition(
        "dequantize_kv", "004", "all int8 codes of one channel, offset 0",
        {"q": every, "scale": f32([0.0157])},
        {"x": exact.cast(exact.mul(every, f32([0.0157])), exact.F16)}, {"dtype": "F16"},
        ("ExhaustiveCodes",), _KV, "integer_semantics.md B.10",
    )  # fmt: skip
    random = np.random.RandomState(41)
    for key, tag in (("002", "F16"), ("003", "BF16"), ("004", "F32")):
        form = exact.FORMATS[tag]
        x = (random.standard_normal((8, 24)) * 2).astype(np.float32).astype(form.dtype)
        scale = random.uniform(0.01, 0.03, 24).astype(np.float32).astype(form.dtype)
        offset = random.randint(-9, 9, 24).astype(np.float32).astype(form.dtype)
        ratio = exact.mul(x, exact.div(1.0, scale, form), form)
        codes = exact.integers(exact.add(ratio, offset, form))
        yield Definition(
            "quantize_kv", key, f"eight tokens of 24 channels in {tag}; reciprocal, product and sum"
            " are each rounded", {"x": x, "scale": scale, "offset": offset},
            {"q": exact.clipped(codes, -128, 127)}, {"form": "mul"},
            ("ReciprocalScale", "ModelDtype", "ChannelIndex", "SaturateThenNarrow"), _KV,
            "integer_semantics.md B.10",
        )  # fmt: skip
    x = f32([np.nan, np.inf, -np.inf, 0.0, -0.0, 127.5, -128.5, 1e-40]).reshape(-1, 1)
    yield Definition(
        "quantize_kv", "005", "NaN becomes 0, infinities saturate, ties at both ends",
        {"x": x, "scale": f32([1.0]), "offset": f32([0])},
        {"q": i8([[0], [127], [-128], [0], [0], [127], [-128], [0]])}, {"form": "mul"},
        ("NaNPolicy", "SaturateThenNarrow", "TieRounding"), _KV, "integer_semantics.md B.10",
    )  # fmt: skip


def _heads() -> Iterator[Definition]:
    x = np.stack([np.arange(-130, 130, 2), np.arange(-130, 130, 2)]).astype(np.float32)
    x = (x + 0.5)[:, None, :] * f32(0.5, 2.0)[:, None, None]
    ratio = x / f32(0.5, 2.0)[:, None, None]
    yield Definition(
        "quantize_heads", "001", "two heads with their own power-of-two scales: ties, both ends",
        {"x": x, "scale": f32([[0.5], [2.0]])},
        {"q": exact.clipped(exact.integers(ratio), -128, 127)}, {},
        ("HeadIndex", "TieRounding", "SaturateThenNarrow"), _FA, "math.md 9.2",
    )  # fmt: skip


def _attention() -> Iterator[Definition]:
    ones = f32([1.0])
    v = i8([[[10, -20], [30, 40], [-128, 127]]])
    yield Definition(
        "attention_int8", "001", "q = 0: all scores 0, P = 1 exactly, P8 = 127, p_scale = 1/127:"
        " the mean of v, [-88/3, 147/3]",
        {"q": np.zeros((1, 1, 4), np.int8), "k": np.ones((1, 3, 4), np.int8), "v": v,
         "q_scale": ones, "k_scale": ones, "v_scale": ones},
        {"y": exact.cast(np.array([[[-88 / 3, 49.0]]]), exact.F16)}, {"softmax_scale": 1.0},
        ("HeadIndex",), _FA, "math.md 9.2", tolerance={"y": ULP},
    )  # fmt: skip
    mask = f32([[0, -np.inf, -np.inf]])
    q = i8([[[1, 2]], [[3, -4]]])
    k = i8([[[1, 0], [0, 1], [5, 5]]])
    yield Definition(
        "attention_int8", "002", "grouped heads under a mask that leaves one key: each query head"
        " gives that key's value times v_scale",
        {"q": q, "k": k, "v": v, "q_scale": f32(1, 0.5), "k_scale": ones, "v_scale": f32([0.25]),
         "mask": mask},
        {"y": np.array([[[2.5, -5]], [[2.5, -5]]], F16)}, {"softmax_scale": 0.5},
        ("HeadIndex", "MaskInfinity"), _FA, "math.md 9.2", tolerance={"y": ULP},
    )  # fmt: skip
    cache = {
        "q": np.zeros((2, 2), F16), "k_q": i8([[1, 2], [3, 4], [5, 6], [7, 8]]),
        "v_q": i8([[4, -8], [8, 0], [-128, 127], [0, 1]]),
        "k_scale": np.array([0.5, 0.25], F16), "v_scale": np.array([0.5, 0.25], F16),
    }  # fmt: skip
    yield Definition(
        "decode_attention", "001", "q = 0: equal weights, so the mean of (v·scale) over four"
        " tokens,"
        " -14.5 and 7.5", cache, {"y": np.array([[-14.5, 7.5]] * 2, F16)},
        {"kv_heads": 1, "softmax_scale": 1.0}, ("ChannelIndex", "HeadIndex"), _KV,
        "integer_semantics.md B.10", tolerance={"y": ULP},
    )  # fmt: skip

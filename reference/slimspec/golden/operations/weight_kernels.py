"""Kernels that dequantize weights or split activations: W8A16, W4A16, W4A8, W4A4."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.matmul.w4a4 import matmul_w4a4, matmul_w4a4_group
from slimspec.matmul.w4a8 import grouped_sum_fp16, matmul_w4a8, split_int8
from slimspec.matmul.weight_only import antiquant, matmul_weight_only
from slimspec.numeric import to_dtype

from .model import Attributes, Operation, Tensors, dtype_of, numerics


def _antiquant(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    w, scale, offset = t["w"], t["scale"], t.get("antiquant_offset")
    return {"y": antiquant(w, scale, offset, dtype_of(a, "dtype"), a.get("steps"), numerics(a))}


def _weight_only(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    x, w, scale, offset = t["x"], t["w"], t["scale"], t.get("antiquant_offset")
    y = matmul_weight_only(x, w, scale, offset, t.get("bias"), a.get("steps"), numerics(a))
    return {"y": y, "weight": antiquant(w, scale, offset, x.dtype, a.get("steps"), numerics(a))}


def _split(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    halves = split_int8(t["x"])
    return {"hi": halves.hi, "lo": halves.lo}


def _w4a8(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    halves = split_int8(t["x"])
    y = matmul_w4a8(
        t["x"], t["w"], t["scale"], t["scale_bias"], t["pertoken_scale"], t.get("offset"),
        dtype_of(a), numerics(a),
    )  # fmt: skip
    scale = t["scale"]
    if scale.dtype.kind in "iu":
        return {"y": y}
    return {
        "y": y,
        "high": grouped_sum_fp16(halves.hi, t["w"], scale, numerics(a)),
        "low": grouped_sum_fp16(halves.lo, t["w"], scale, numerics(a)),
    }


def _w4a4(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    scales = t["weight_scale"], t["pertoken_scale"]
    return {"y": matmul_w4a4(t["x"], t["w"], *scales, t.get("bias"), dtype_of(a), numerics(a))}


def _w4a4_group(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    scales = t["scale"], t["pertoken_scale"]
    y = matmul_w4a4_group(t["x"], t["w"], *scales, t.get("offset"), dtype_of(a), numerics(a))
    return {"y": y}


def _weights(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    n, k = sizes.get("n", 32), sizes.get("k", 64)
    given = {"dtype": "F16"} | dict(attributes)
    dtype = dtype_of(given, "dtype")
    inputs = {
        "w": random.randint(-128, 128, (n, k)).astype(np.int8),
        "scale": random.uniform(0.001, 0.02, (n, 1)).astype(np.float32).astype(dtype),
        "antiquant_offset": random.randint(-20, 20, (n, 1)).astype(np.float32).astype(dtype),
    }
    return inputs, given


def _with_inputs(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    inputs, given = _weights(random, sizes, attributes)
    x = random.standard_normal((sizes.get("m", 8), inputs["w"].shape[1])).astype(np.float32)
    x = to_dtype(x, whole_dtype(given.pop("dtype")))
    return {"x": x, **inputs}, given


def _int4_codes(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    m, n, k = (sizes.get(s, d) for s, d in (("m", 8), ("n", 32), ("k", 64)))
    x, w = (random.randint(-8, 8, s).astype(np.int8) for s in ((m, k), (n, k)))
    inputs = {"x": x, "w": w}
    for name, count in (("weight_scale", n), ("pertoken_scale", m)):
        inputs[name] = np.asarray(random.uniform(0.01, 0.1, count), np.float32)
    return inputs, {"out_dtype": "F16"} | dict(attributes)


def _two_level(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    m, n, k, g = (sizes.get(s, d) for s, d in (("m", 8), ("n", 16), ("k", 64), ("g", 32)))
    w = random.randint(-8, 8, (n, k)).astype(np.int8)
    scale = random.uniform(0.001, 0.01, (n, k // g)).astype(np.float32)
    wide = w.astype(np.float64) * np.repeat(scale, g, axis=1)
    inputs = {
        "x": random.randint(-127, 128, (m, k)).astype(np.int8),
        "w": w,
        "scale": scale,
        "scale_bias": (8 * wide.sum(axis=1, keepdims=True)).astype(np.float32),
        "pertoken_scale": random.uniform(0.01, 0.05, m).astype(np.float32),
    }
    return inputs, {"out_dtype": "F16"} | dict(attributes)


OPERATIONS = (
    Operation(
        "antiquant", "y = T(T(w + antiquant_offset)·scale), or rounded once", _antiquant, ("y",),
        _weights, "antiquant",
    ),
    Operation(
        "matmul_weight_only", "y = T(fl32(Σ_k x·ŵ) + bias), ŵ by antiquant", _weight_only, ("y",),
        _with_inputs,
    ),
    Operation("split_int8", "hi = floor(x/16), lo = (x & 15) - 8", _split, ("hi", "lo")),
    Operation(
        "matmul_w4a8", "y = T((16·H + L + scale_bias)·pertoken_scale), H and L in fp16", _w4a8,
        ("y",), _two_level, "matmul_w4a8",
    ),
    Operation("matmul_w4a4", "y = T((fp32(Σ x·w)·weight_scale)·pertoken_scale)", _w4a4, ("y",),
              _int4_codes),
    Operation(
        "matmul_w4a4_group", "y = T(Σ_g (acc_g - Σx·offset_g)·scale_g · pertoken_scale)",
        _w4a4_group, ("y",),
    ),
)  # fmt: skip

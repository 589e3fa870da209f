"""Quantization of activations: static, per token, asymmetric."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.matmul.quantize_dynamic import quantize_dynamic
from slimspec.matmul.quantize_dynamic_asym import quantize_dynamic_asym
from slimspec.matmul.quantize_static import quantize_static, runtime_scale
from slimspec.numeric import to_dtype
from slimspec.observe.minmax import float64_mean_of_extrema, mean_of_extrema, running_extrema

from .model import Attributes, Operation, Tensors, batches, dtype_of, numerics

_JOINED = {
    "mean": mean_of_extrema,
    "mean64": float64_mean_of_extrema,
    "extremes": running_extrema,
}


def _range(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    low, high = _JOINED[a["method"]](batches(t))
    return {"low": low.reshape(1), "high": high.reshape(1)}


def _static(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    form, low, high = a.get("form"), a.get("low", -128), a.get("high", 127)
    offset = t.get("offset", np.zeros(1, np.float32))
    return {"q": quantize_static(t["x"], t["scale"], offset, form, numerics(a), low, high)}


def _runtime(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    r, z = runtime_scale(t["input_scale"], t["input_offset"], dtype_of(a, "model_dtype"))
    return {"reciprocal": r, "offset": z}


def _dynamic(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    made = quantize_dynamic(
        t["x"], t.get("smooth"), a.get("bits", 8), a.get("variant"), numerics(a)
    )
    return {"q": made.q, "scale": made.scale}


def _asymmetric(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    made = quantize_dynamic_asym(t["x"], a.get("bits", 8), a.get("variant", "golden"))
    return {"q": made.q, "scale": made.scale, "offset": made.offset}


def _tokens(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    given = dict(attributes)
    x = 3 * random.standard_normal((sizes.get("m", 16), sizes.get("k", 64))).astype(np.float32)
    return {"x": to_dtype(x, whole_dtype(given.pop("dtype", "F16")))}, given


def _with_scale(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    inputs, given = _tokens(random, sizes, attributes)
    inputs["scale"] = to_dtype(random.uniform(0.01, 0.05, 1).astype(np.float32), inputs["x"].dtype)
    inputs["offset"] = to_dtype(random.randint(-40, 40, 1).astype(np.float32), inputs["x"].dtype)
    return inputs, given


OPERATIONS = (
    Operation(
        "observe_range", "min and max of each batch, joined by their mean or extremes", _range,
        ("low", "high"),
    ),
    Operation(
        "quantize_static", "q = clip(rint(x/scale + offset), low, high)", _static, ("q",),
        _with_scale, "quantize_static",
    ),
    Operation(
        "runtime_scale", "reciprocal = T(1/T(input_scale)), offset = T(input_offset)", _runtime,
        ("reciprocal", "offset"),
    ),
    Operation(
        "quantize_dynamic", "scale = max|x|·fp32(1/127) per token, q = rint(x/scale)", _dynamic,
        ("q", "scale"), _tokens, "quantize_dynamic",
    ),
    Operation(
        "quantize_dynamic_asym", "scale = (max - min)·fp32(1/255), offset = 127 - max/scale",
        _asymmetric, ("q", "scale", "offset"), _tokens,
    ),
)  # fmt: skip

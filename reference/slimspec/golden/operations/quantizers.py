"""Scales, offsets and codes of weights, and the tensors that are folded from them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.numeric import encode_deq_scale, to_dtype
from slimspec.quantize.affine import dequantize_rows, qparams, quantize
from slimspec.quantize.fp8 import quantize_fp8
from slimspec.quantize.minmax import IntegerWeight, quantize_minmax
from slimspec.quantize.mxfp4 import quantize_mxfp4
from slimspec.quantize.mxfp8 import quantize_mxfp8
from slimspec.quantize.weight_lowbit import quantize_two_level
from slimspec.schemes.records import InputParams
from slimspec.schemes.w4a8_dynamic import bias_terms, scale_bias
from slimspec.schemes.w8a8 import epilogue

from .model import Attributes, Operation, Tensors


def _qparams(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    scale, offset = qparams(t["lo"], t["hi"], **a)
    return {"scale": scale, "offset": offset}


def _quantize(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"q": quantize(t["x"], t["scale"], t["offset"], **a)}


def _dequantize(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"w": dequantize_rows(t["q"], t["scale"], t["offset"])}


def _weight(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    made = quantize_minmax(t["w"], **a)
    return {"q": made.q, "scale": made.scale, "offset": made.offset}


def _two_level(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    made = quantize_two_level(t["w"], **a)
    return {"q": made.q, "scale": made.scale, "second": made.second}


def _fold(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    weight = IntegerWeight(t["q"], t["weight_scale"], np.zeros_like(t["weight_scale"]))
    given = InputParams(t["input_scale"], t["input_offset"])
    deq_scale, quant_bias = epilogue(weight, given, t.get("bias"), a["variant"])
    return {"deq_scale": deq_scale, "quant_bias": quant_bias, "word": encode_deq_scale(deq_scale)}


def _scale_bias(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    terms = t.get("terms")
    if terms is None:
        terms = bias_terms(t["q"], t["scale"], t.get("second"))
    return {"scale_bias": scale_bias(terms, a["name"], a["variant"])}


def _fp8(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    made = quantize_fp8(t["w"])
    return {"q": made.q.view(np.uint8), "scale": made.scale}


def _mx(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    make: Any = {"mxfp8": quantize_mxfp8, "mxfp4": quantize_mxfp4}[a["format"]]
    made = make(t["w"], a.get("method", "minmax"))
    return {"elements": made.elements, "exponent": made.exponent}


def _weights(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    w = random.standard_normal((sizes.get("n", 16), sizes.get("k", 64))).astype(np.float32)
    given: dict[str, Any] = {"bits": 8, "symmetric": True, "variant": "v1"} | dict(attributes)
    w = to_dtype(w, whole_dtype(given.pop("dtype", "F32")))
    if "g" in sizes:
        given |= {"granularity": "group", "group_size": sizes["g"]}
    return {"w": w}, given


def _floats(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    inputs, given = _weights(random, {s: v for s, v in sizes.items() if s != "g"}, attributes)
    return inputs, {n: v for n, v in given.items() if n in ("format", "method")}


def _of_blocks(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    return _floats(random, sizes, {"format": "mxfp8"} | dict(attributes))


def _blocks(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    w = random.standard_normal((sizes.get("n", 16), sizes.get("k", 64))).astype(np.float32)
    return {"w": w}, {"group_size": sizes.get("g", 32)} | dict(attributes)


def _epilogue(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    n, k = sizes.get("n", 16), sizes.get("k", 64)
    inputs = {
        "q": random.randint(-128, 128, (n, k)).astype(np.int8),
        "weight_scale": random.uniform(0.001, 0.02, (n, 1)).astype(np.float32),
        "input_scale": random.uniform(0.005, 0.05, 1).astype(np.float32),
        "input_offset": random.randint(-128, 128, 1).astype(np.float32),
        "bias": random.standard_normal(n).astype(np.float32),
    }
    return inputs, {"variant": "v1"} | dict(attributes)


OPERATIONS = (
    Operation(
        "qparams", "scale and offset of a range that is widened to hold zero", _qparams,
        ("scale", "offset"),
    ),
    Operation(
        "quantize", "q = clip(rint(x/scale + offset)), each step in x's dtype", _quantize, ("q",)
    ),
    Operation("dequantize_weight", "w = (q - offset)·scale per row or group", _dequantize, ("w",)),
    Operation(
        "quantize_weight", "min-max: scale and offset per row, tensor or group, then codes",
        _weight,
        ("q", "scale", "offset"), _weights,
    ),
    Operation(
        "quantize_two_level", "int8 per row (bound 119), then int4 per group with integer scales",
        _two_level, ("q", "scale", "second"), _blocks,
    ),
    Operation(
        "fold_w8a8", "deq_scale = input_scale·weight_scale, quant_bias = rint(bias/deq -"
        " Σq·offset)",
        _fold, ("deq_scale", "quant_bias", "word"), _epilogue,
    ),
    Operation("scale_bias", "8·Σ_k q·scale, in 1 or 16 sums by the linear's name", _scale_bias,
              ("scale_bias",)),
    Operation("quantize_fp8", "E4M3 codes with one scale per row: amax/448", _fp8, ("q", "scale"),
              _floats),
    Operation(
        "quantize_mx", "elements and power-of-two exponents of blocks of 32", _mx,
        ("elements", "exponent"), _of_blocks,
    ),
)  # fmt: skip

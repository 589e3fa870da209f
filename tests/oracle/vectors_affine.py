"""Oracle folders of the affine quantizers and the savers: folder name -> routine of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from slimspec.numeric import as_float32, to_dtype
from slimspec.observe.histogram_v1 import HistogramObserverV1
from slimspec.observe.minmax import float64_mean_of_extrema, running_extrema
from slimspec.quantize.activation import activation_qparams
from slimspec.quantize.affine import codes, common_dtype, dequantize, qparams, quantize
from slimspec.quantize.hqq import optimize_hqq
from slimspec.quantize.minmax import IntegerWeight, quantize_minmax
from slimspec.schemes import InputParams, Linear, Options, get
from slimspec.schemes.w4a8_dynamic import scale_bias

Case = dict[str, Any]
Tensors = Mapping[str, np.ndarray]
Outputs = dict[str, Any]


def _input(case: Case, tensors: Tensors, name: str) -> np.ndarray:
    return tensors[case["in"][name]["tensor"]]


def _bits(case: Case) -> int:
    return {"int8": 8, "int4": 4}[case["params"]["q_dtype"]]


def _v0_codes(x: np.ndarray, scale: np.ndarray, offset: np.ndarray, **options: Any) -> Outputs:
    """The fake quantizer returns the codes in the dtype of x, so that -0 stays -0, and x̂."""
    q = codes(x, scale, offset, **options)
    return {"q": q.astype(x.dtype), "dq": dequantize(q, scale, offset)}


def legacy_qparams(case: Case, tensors: Tensors) -> Outputs:
    p = case["params"]
    lo, hi = (np.atleast_1d(_input(case, tensors, name)) for name in ("x_min", "x_max"))
    scale, offset = qparams(
        lo,
        hi,
        bits=p["bit"],
        symmetric=p["sym"],
        variant="v0",
        signed=p["q_signed"],
        round_offset=p["integral_zero_point"],
    )
    stored = case["out"]["zero_point"]["shape"]  # the producer broadcasts a symmetric offset
    return {"scale": scale, "zero_point": offset.reshape(stored) if stored == [1] else offset}


def legacy_fake_quantize(case: Case, tensors: Tensors) -> Outputs:
    p, x = case["params"], _input(case, tensors, "x")
    granularity = "channel" if p["per_channel"] else "tensor"
    made = quantize_minmax(
        x, bits=p["bit"], symmetric=p["sym"], variant="v0", granularity=granularity
    )
    clip = {"max_bound": p["kwargs"].get("max_bound")}
    scale = made.scale
    return _v0_codes(x, scale, made.offset, bits=p["bit"], **clip) | {
        "scale": scale,
        "zero_point": made.offset,
    }


def legacy_fake_quantize_save_group(case: Case, tensors: Tensors) -> Outputs:
    p, x = case["params"], _input(case, tensors, "x")
    rows = x.reshape(-1, p["group_size"])  # (n * k // g, g)
    made = quantize_minmax(rows, bits=p["bit"], symmetric=p["sym"], variant="v0")
    q = codes(rows, made.scale, made.offset, bits=p["bit"])
    return {
        "scale": made.scale,
        "zero_point": made.offset,
        "q": q.astype(x.dtype).reshape(x.shape),
    }


def legacy_init_weight(case: Case, tensors: Tensors) -> Outputs:
    """With hqq the scale is float16: it meets other dtypes in float32."""
    p, w = case["params"], _input(case, tensors, "weight")
    made = quantize_minmax(
        w,
        bits=p["bit"],
        symmetric=p["is_sym"],
        variant="v0",
        granularity="tensor" if p["mm_tensor"] else "channel",
    )
    scale, offset = made.scale, made.offset
    if p["hqq"]:
        scale, offset = optimize_hqq(w, scale, offset, bits=p["bit"], per_tensor=p["mm_tensor"])
    dtype = common_dtype(w, scale)
    q = codes(w, scale, offset, bits=p["bit"])
    back = dequantize(q, scale.astype(dtype), offset.astype(dtype))
    scale = scale.reshape(case["out"]["o2"]["shape"])  # an improved scale per tensor is 0-d there
    return {"o0": q.astype(dtype), "o1": to_dtype(back, w.dtype), "o2": scale, "o3": offset}


def v1_qparams(case: Case, tensors: Tensors) -> Outputs:
    p = case["params"]
    options = p.get("kwargs", {})
    lo, hi = (np.atleast_1d(_input(case, tensors, name)) for name in ("min_val", "max_val"))
    scale, offset = qparams(
        lo,
        hi,
        bits=_bits(case),
        symmetric=p["symmetric"],
        variant="v1",
        max_bound=options.get("max_bound"),
        signed=options.get("q_signed", True),
        round_offset=options.get("integral_zero_point", True),
    )
    return {"scale": scale, "offset": offset}


def v1_quantize(case: Case, tensors: Tensors) -> Outputs:
    """Scopes: per_channel one scale per column (x is W transposed), per_token per row."""
    p, x = case["params"], _input(case, tensors, "x")
    axis = {"per_channel": 0, "per_token": -1, "per_tensor": None}[p["scope"]]
    lo, hi = (f(x, axis=axis, keepdims=axis == -1) for f in (np.min, np.max))
    lo, hi = np.atleast_1d(lo), np.atleast_1d(hi)
    bits = _bits(case)
    scale, offset = qparams(lo, hi, bits=bits, symmetric=p["symmetric"], variant="v1")
    q = quantize(x, scale, offset, bits=bits)
    back = dequantize(q, scale, offset)
    return {"scale": scale, "offset": offset, "q": q, "dq": back, "fake": back}


def v1_quantize_group(case: Case, tensors: Tensors) -> Outputs:
    """x is [k, n]; groups run through the flat weight [n, k], across rows where g exceeds k."""
    p, x = case["params"], _input(case, tensors, "x")
    rows = np.ascontiguousarray(x.T).reshape(-1, p["group_size"])
    made = quantize_minmax(rows, bits=_bits(case), symmetric=p["symmetric"], variant="v1")
    back = dequantize(made.q, made.scale, made.offset)
    return {
        "scale": made.scale.reshape(-1),
        "offset": made.offset.reshape(-1),
        "q": made.q.reshape(x.T.shape).T,
        "dq": back.reshape(x.T.shape).T,
    }


def v1_weight_minmax(case: Case, tensors: Tensors) -> Outputs:
    made = quantize_minmax(_input(case, tensors, "w"), bits=_bits(case), variant="v1")
    back = dequantize(made.q, made.scale, made.offset)
    return {"scale": made.scale[:, 0], "offset": made.offset[:, 0], "q": made.q, "dq": back}


def v1_act_quantizers(case: Case, tensors: Tensors) -> Outputs:
    """The parameters and the fake-quantized batch after each batch.

    per_tensor and pd_mix join all batches, the others see the latest only; the forward of pd_mix
    quantizes the batch symmetrically by itself, its parameters are those of the decode path.
    """
    p = case["params"]
    xs = [tensors[item["tensor"]] for item in case["in"]["xs"]["list"]]
    if p["method"] == "histogram":
        return _act_histogram(xs, p["symmetric"])
    mean = p["ext"].get("aggregation_type") == "mean"
    join = float64_mean_of_extrema if mean else running_extrema
    history = []
    for i, x in enumerate(xs):
        if p["scope"] == "per_channel":
            columns = x.reshape(-1, x.shape[-1])
            lo, hi = columns.min(axis=0), columns.max(axis=0)
        else:
            lo, hi = join([x] if p["scope"] == "per_token" else xs[: i + 1])
        make = qparams if p["scope"] == "per_channel" else activation_qparams
        scale, offset = make(lo, hi, symmetric=p["symmetric"], variant="v1")
        used = (scale, offset)
        if p["scope"] == "pd_mix":
            used = activation_qparams(*running_extrema([x]), symmetric=True, variant="v1")
        y = dequantize(quantize(x, *used), *used)
        history.append({"scale": scale, "offset": offset, "y": y})
    return {"history": history}


def _act_histogram(xs: list[np.ndarray], symmetric: bool) -> Outputs:
    """The clip of all batches gives the parameters; what it quantizes is clamped to it too."""
    observer, history = HistogramObserverV1(), []
    for x in xs:
        observer.update(x)
        lo, hi = (np.atleast_1d(bound) for bound in observer.range())
        scale, offset = qparams(lo, hi, symmetric=symmetric, variant="v1")
        y = to_dtype(dequantize(quantize(x, scale, offset), scale, offset), x.dtype)
        y = to_dtype(np.clip(*(as_float32(to_dtype(v, x.dtype)) for v in (y, lo, hi))), x.dtype)
        history.append({"scale": scale, "offset": offset, "y": y})
    return {"history": history}


def v1_save_w8a8(case: Case, tensors: Tensors) -> Outputs:
    """`dtype` is that of the parameters, `is_bf16` what the saver was told of the model."""
    q = _input(case, tensors, "W")
    scale = _input(case, tensors, "ws").reshape(-1, 1)
    bias = _input(case, tensors, "b") if case["params"]["bias"] else None
    params = InputParams(*(_input(case, tensors, name).reshape(1) for name in ("isc", "io")))
    linear = Linear(q.astype(scale.dtype), bias)
    weight = IntegerWeight(q, scale, np.zeros_like(scale))
    made = get("W8A8").assemble(linear, weight, Options("v1", input_params=params))
    return get("W8A8").tensors(made, "A1", "BF16" if case["params"]["is_bf16"] else "F16")


def v1_save_w4a8(case: Case, tensors: Tensors) -> Outputs:
    q = _input(case, tensors, "W")
    scale = _input(case, tensors, "ws").reshape(-1, 1)
    weight = IntegerWeight(q, scale, np.zeros_like(scale))
    linear = Linear(q.astype(scale.dtype), name=case["params"]["name"])
    made = get("W4A8_DYNAMIC").assemble(linear, weight, Options("v1"))
    return get("W4A8_DYNAMIC").tensors(made, "A1", "BF16")


def process_scale_bias(case: Case, tensors: Tensors) -> Outputs:
    w, name = _input(case, tensors, "bias"), case["params"]["name"]
    return {"v1": scale_bias(w, name, "v1"), "legacy": scale_bias(w, name, "v0")}


VECTORS: dict[str, Callable[[Case, Tensors], Outputs]] = {
    "legacy_fake_quantize": legacy_fake_quantize,
    "legacy_fake_quantize_save_group": legacy_fake_quantize_save_group,
    "legacy_init_weight_quant_normal": legacy_init_weight,
    "legacy_linear_quantization_params": legacy_qparams,
    "process_scale_bias": process_scale_bias,
    "v1_ActQuantizers": v1_act_quantizers,
    "v1_WeightPerChannelMinmax": v1_weight_minmax,
    "v1_calculate_qparam_int": v1_qparams,
    "v1_calculate_qparam_int_maxbound": v1_qparams,
    "v1_quantize_dequantize_int": v1_quantize,
    "v1_quantize_dequantize_int_group": v1_quantize_group,
    "v1_saver_on_w4a8_dynamic": v1_save_w4a8,
    "v1_saver_on_w8a8_static": v1_save_w8a8,
}

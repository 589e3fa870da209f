"""Table from folders of recorded vectors to our routines: packing, FP8, MX, deq_scale words.

VECTORS   folder -> routine(case, input tensors by stored name) -> outputs
DECODE    folder -> {output: decoder}, for codes in which several bit patterns mean one value
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from slimspec.numeric.arithmetic import as_float32, exp2, mul
from slimspec.numeric.deq_word import decode_deq_scale, encode_deq_scale
from slimspec.numeric.fp4 import nearest_fp4
from slimspec.numeric.fp8 import e4m3_to_float32
from slimspec.pack.fp4 import pack_fp4
from slimspec.pack.int4 import pack_int4
from slimspec.quantize.fp8 import dequantize_fp8, fp8_scale, fp8_values, to_e4m3
from slimspec.quantize.mx_blocks import MxWeight, dequantize_mx
from slimspec.quantize.mxfp4 import CEIL_X, quantize_mxfp4, quantize_mxfp4_dualscale
from slimspec.quantize.mxfp8 import quantize_mxfp8

Case = dict[str, Any]
Tensors = Mapping[str, np.ndarray]
Outputs = dict[str, Any]


def _input(case: Case, tensors: Tensors, name: str) -> np.ndarray:
    return tensors[case["in"][name]["tensor"]]


def _deq_word(case: Case, tensors: Tensors) -> Outputs:
    word = encode_deq_scale(_input(case, tensors, "scale"))
    return {"v1": word, "legacy": word, "bf16_passthrough": decode_deq_scale(word)}


def _legacy_int4(case: Case, tensors: Tensors) -> Outputs:
    rows = case["params"]["fn"] == "_w4a8_pack_int4" or case["params"].get("trans_flag") is False
    return {"out": pack_int4(_input(case, tensors, "w"), axis=-2 if rows else -1)}


def _w4a8_int4(case: Case, tensors: Tensors) -> Outputs:
    packed = pack_int4(_input(case, tensors, "w"), axis=-2)
    return {"out": packed, "out_format_pkg": packed}


def _fp4(case: Case, tensors: Tensors) -> Outputs:
    return {"out": pack_fp4(nearest_fp4(_input(case, tensors, "w")))}


def _fp8(case: Case, tensors: Tensors) -> Outputs:
    """Scopes: per_channel one scale per column, per_token per row, per_tensor a single one."""
    x = _input(case, tensors, "x")
    axis = {"per_channel": 0, "per_token": -1, "per_tensor": None}[case["params"]["scope"]]
    with np.errstate(invalid="ignore"):  # NaN stays
        amax = np.abs(x).max(axis=axis, keepdims=axis == -1)
    scale = fp8_scale(np.asarray(amax))
    values = fp8_values(x, scale)
    return {
        "scale": scale,
        "q": as_float32(values),  # recorded before the cast to E4M3
        "saved_bits": to_e4m3(values).view(np.uint8),
        "dq": dequantize_fp8(values, scale),
    }


def _mx_weight(params: Case, w: np.ndarray) -> MxWeight:
    if params["q_dtype"] == "mxfp8":
        return quantize_mxfp8(w, params["method"])
    given = params.get("ext", {})
    return quantize_mxfp4(w, params["method"], ceil_x=given.get("ceil_x_value", CEIL_X))


def _mx(case: Case, tensors: Tensors) -> Outputs:
    q = _mx_weight(case["params"], _input(case, tensors, "w"))
    keep = q.exponent[..., None]  # (n, b, 1)
    return {"scale": keep, "offset": np.zeros_like(keep), "q": q.elements, "dq": dequantize_mx(q)}


def _mx_mse_round(case: Case, tensors: Tensors) -> Outputs:
    """The producer's forward of this method multiplies [n, k] by [n, b, 1] without cutting blocks:

    it broadcasts to a third axis, or fails. The saved tensors do not go through it.
    """
    found = _mx(case, tensors)
    dtype = _input(case, tensors, "w").dtype
    return found | {"dq": mul(found["q"], exp2(found["scale"], dtype), dtype)}


def _mx_dualscale(case: Case, tensors: Tensors) -> Outputs:
    q = quantize_mxfp4_dualscale(
        _input(case, tensors, "w"), case["params"]["ext"]["dual_block_size"]
    )
    return {
        "scale": q.exponent[..., None],
        "dual_scale": q.dual_scale[..., None],
        "q": q.elements,
    }


VECTORS = {
    "deqscale2int64": _deq_word,
    "pack_fp4_to_uint8": _fp4,
    "pack_legacy_int4": _legacy_int4,
    "pack_w4a8_pack_int4": _w4a8_int4,
    "v1_MXWeight_ceil_x": _mx,
    "v1_MXWeight_dualscale": _mx_dualscale,
    "v1_MXWeight_fouroversix": _mx,
    "v1_MXWeight_minmax": _mx,
    "v1_MXWeight_mse_round": _mx_mse_round,
    "v1_fp8_e4m3": _fp8,
}

DECODE = {"v1_fp8_e4m3": {"saved_bits": e4m3_to_float32}}

"""Fused expert operators and quantized communication."""

from numpy.typing import NDArray

from slimspec.matmul.dequant_swiglu_quant import (
    dequant_swiglu,
    dequant_swiglu_quant_dynamic,
    dequant_swiglu_quant_static,
)
from slimspec.matmul.per_token import scale_per_token
from slimspec.matmul.reduce_quant import reduce_quantized
from slimspec.matmul.swiglu import swiglu
from slimspec.matmul.swiglu_quant import swiglu_quant

from .model import Attributes, Operation, Tensors


def _swiglu_quant(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    given = t["acc"], t["weight_scale"], t["pertoken_scale"]
    made = swiglu_quant(*given)
    v = scale_per_token(*given)
    return {"q": made.q, "scale": made.scale, "v": v, "activated": swiglu(v)}


def _dynamic(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    given = t["acc"], t["weight_scale"], t["activation_scale"]
    left = a.get("activate_left", False)
    made = dequant_swiglu_quant_dynamic(*given, t.get("quant_scale"), t.get("bias"), left)
    activated = dequant_swiglu(*given, t.get("bias"), left)
    return {"q": made.q, "scale": made.scale, "activated": activated}


def _static(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    given = t["acc"], t["weight_scale"], t["activation_scale"]
    left = a.get("activate_left", False)
    static = t["quant_scale"], t["quant_offset"]
    q = dequant_swiglu_quant_static(*given, *static, t.get("bias"), left)
    return {"q": q, "activated": dequant_swiglu(*given, t.get("bias"), left)}


def _reduce(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"y": reduce_quantized(t["partial"], t["reduce_scale"], t["gather_scale"])}


OPERATIONS = (
    Operation(
        "swiglu_quant", "a = silu(v1)·v2, q = rint(a·127/max|a|), scale = max|a|/127 as 1/s",
        _swiglu_quant, ("q", "scale"),
    ),
    Operation(
        "dequant_swiglu_quant_dynamic", "a = swiglu(dequantized)·quant_scale, then per token",
        _dynamic, ("q", "scale"),
    ),
    Operation(
        "dequant_swiglu_quant_static", "q = clip(rint(swiglu(dequantized)/scale + offset))",
        _static, ("q",),
    ),
    Operation("reduce_quantized", "y = dq(q(Σ_r dq(q(y_r))))", _reduce, ("y",)),
)  # fmt: skip

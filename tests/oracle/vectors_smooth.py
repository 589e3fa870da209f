"""Oracle folders of smoothing and rotation: folder name -> routine of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from slimspec.smooth.fake_quant import fake_int8_rows, fake_int8_tensor
from slimspec.smooth.flex import FlexLoss, alpha_curve, search_alpha, search_alpha_beta
from slimspec.smooth.scales import (
    grouped_max_scale,
    grouped_mean,
    signed_weight_scale,
    smooth_scale,
    weight_scale,
)

Case = dict[str, Any]
Tensors = Mapping[str, np.ndarray]
Outputs = dict[str, Any]


def _input(case: Case, tensors: Tensors, name: str) -> np.ndarray:
    return tensors[case["in"][name]["tensor"]]


def v1_smooth_scale(case: Case, tensors: Tensors) -> Outputs:
    p = case["params"]
    if p["fn"] == "compute_weight_scale":
        return {"out": weight_scale([_input(case, tensors, "W")])}
    a = _input(case, tensors, "a")
    iterative = p["fn"].startswith("iter")
    w = signed_weight_scale(_input(case, tensors, "W")) if iterative else None
    w = _input(case, tensors, "ws") if w is None else w
    beta = p.get("beta")
    if p["fn"].endswith("compute_smooth_scale"):
        return {"out": smooth_scale(a, w, p["alpha"], beta, p.get("scale_min", 1e-5))}
    heads, kv_heads = p["heads"], p["kv_heads"]
    if p.get("group_method") == "max":
        o, v = grouped_max_scale(a, w, p["alpha"], beta, heads, kv_heads)
    else:
        o, v = grouped_mean(smooth_scale(a, w, p["alpha"], beta), heads, kv_heads)
    return {"o": o, "v": v}


def v1_flex(case: Case, tensors: Tensors) -> Outputs:
    fn = case["params"].get("fn")
    if fn == "quant_int8sym":
        return {"out": fake_int8_rows(_input(case, tensors, "x"))}
    if fn == "quant_int8asym":
        return {"out": fake_int8_tensor(_input(case, tensors, "x"))}
    loss = FlexLoss(_input(case, tensors, "act"), _input(case, tensors, "w"))
    best = search_alpha_beta(loss)
    return {
        "alpha": best.alpha,
        "beta": best.beta,
        "mse": best.loss,
        "curve": alpha_curve(loss),
    }


def v0_flex(case: Case, tensors: Tensors) -> Outputs:
    """`act_asym` of the recording was passed as the producer's act_sym: true means symmetric."""
    p = case["params"]
    if p["fn"] == "quant_int8sym":
        return {"out": fake_int8_rows(_input(case, tensors, "x"))}
    if p["fn"] == "quant_int8tasym":
        return {"out": fake_int8_tensor(_input(case, tensors, "x"))}
    if p["fn"] == "reduce_scales_for_mqga":
        a, w = _input(case, tensors, "a"), _input(case, tensors, "w")
        kv_heads = a.size // (p["groups"] * p["head_dim"])
        heads = kv_heads * p["groups"]
        o, v = grouped_max_scale(a, w, p["alpha"], p["beta"], heads, kv_heads)
        return {"o0": o.reshape(-1, p["head_dim"]), "o1": v.reshape(-1, p["head_dim"])}
    act, w = _input(case, tensors, "act"), _input(case, tensors, "w")
    if p["fn"] == "scale_descale":
        loss = FlexLoss(act, w, act_symmetric=p["act_asym"])
        return {"o0": np.float32(loss(p["alpha"], p["beta"]))}
    best = search_alpha(FlexLoss(act, w, act_symmetric=False))  # the first pass only
    return {"o0": best.alpha, "o1": np.float32(best.loss)}


VECTORS: dict[str, Callable[[Case, Tensors], Outputs]] = {
    "anti_flex_smooth_so": v0_flex,
    "v1_flex_alpha_beta_search": v1_flex,
    "v1_smooth_scale_functions": v1_smooth_scale,
}

"""The recipe of a recorded one-click run, as steps of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oracle_replay.case import Case

SMOOTHING = ("smooth_quant", "iter_smooth", "flex_smooth_quant", "awq", "flex_awq_ssz")
EXPONENTS = ("alpha", "beta", "symmetric", "scale_min", "n_grid")  # and what goes with them
WEIGHT = ("group_size", "percdamp", "block_size")  # of weights
LABELS = {  # dtype and scope of weights and of activations -> type
    ("int8", "per_channel", "int8", "per_tensor"): "W8A8",
    ("int8", "per_channel", "int8", "per_token"): "W8A8_DYNAMIC",
    ("int8", "per_channel", "int8", "pd_mix"): "W8A8_MIX",
    ("int8", "per_channel", None, None): "W8A16",
    ("int8", "per_group", None, None): "W8A16",
    ("int8", "per_group", "int8", "per_token"): "W8A8_DYNAMIC",
    ("int4", "per_channel", "int8", "per_token"): "W4A8_DYNAMIC",
    ("int4", "per_channel", "int4", "per_token"): "W4A4_DYNAMIC",
    ("mxfp8", "per_block", "mxfp8", "per_block"): "W8A8_MXFP8",
    ("mxfp4", "per_block", "mxfp4", "per_block"): "W4A4_MXFP4",
    ("mxfp4", "per_block", "mxfp8", "per_block"): "W4A8_MXFP",
    ("mxfp4", "dual_scale", "mxfp4", "dual_scale"): "W4A4_MXFP4_DUALSCALE",
    ("fp8_e4m3", "per_channel", "fp8_e4m3", "per_token"): "WFP8AFP8_DYNAMIC",
}


REASONS = {  # steps that are outside the pipeline
    "flatquant": "flatquant: transforms are trained",
    "autoround_quant": "autoround_quant: rounding is trained",
}


class NotRunError(Exception):
    """Outside what the pipeline does; the message says why."""


def steps_of(case: Case) -> dict[str, Any]:
    """Return the content of a config file, without texts. Raises: NotRunError."""
    spec = case.recipe["spec"]
    save = (spec.get("save") or [{}])[0]
    grouped = any(step.get("type") == "group" for step in spec.get("process") or [])
    return {
        "producer": "MF" if str(save.get("type", "")).startswith("mindie") else "A1",
        "part_file_size": save.get("part_file_size") or 0,
        "one_pass": grouped,
        "steps": [_step(step) for step in case.steps],
    }


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(step.get("type"))
    globs = {k: step[k] for k in ("include", "exclude") if step.get(k)}
    if kind == "linear_quant":
        return {"step": "quantize", **_linear(step["qconfig"]), **globs}
    if kind == "quarot":
        online = {"online": True, "max_tp_size": step.get("max_tp_size", 4)}
        online["down_proj_layers"] = step.get("down_proj_online_layers", [])
        more = online if step.get("online") else {}
        return {"step": "rotate", "block_size": step.get("block_size", -1), **more}
    if kind in SMOOTHING:
        kinds = step.get("enable_subgraph_type")
        found = {
            "step": "smooth",
            "method": kind,
            **({"subgraphs": kinds} if kinds else {}),
            **globs,
        }
        found |= {name: step[name] for name in EXPONENTS if step.get(name) is not None}
        weight = step.get("weight_qconfig") or (step.get("qconfig") or {}).get("weight")
        return {**found, "w_bit": int(weight["dtype"][-1])} if weight else found
    if kind == "kv_smooth":
        return {"step": "kv_smooth", "factor": step.get("smooth_factor", 1.0), **globs}
    if kind == "float_sparse":
        return {"step": "prune", "ratio": step["sparse_ratio"], **globs}
    if kind == "svd_res":
        return {"step": "svd", "rank": step.get("rank", 32)}
    if kind == "fa3_quant":
        return {"step": "attention", **_attention(step), **globs}
    if kind == "dynamic_cache":
        return {"step": "cache", "symmetric": step["qconfig"]["symmetric"], **globs}
    raise NotRunError(REASONS.get(kind, f"step {kind}"))


def _attention(step: Mapping[str, Any]) -> dict[str, Any]:
    details = step.get("details") or {}
    dynamic = [r[-1] for r, how in details.items() if how["scope"] == "per_token"]
    element = {how["dtype"] for how in details.values()} or {"int8"}
    if len(element) > 1:
        raise NotRunError(f"attention of {' and '.join(sorted(element))}")
    return {"element": element.pop(), "dynamic": dynamic}


def _linear(config: Mapping[str, Any]) -> dict[str, Any]:
    weight, act = config["weight"], config.get("act") or {}
    key = (weight["dtype"], weight["scope"], act.get("dtype"), act.get("scope"))
    found: dict[str, Any] = {"type": LABELS.get(key)}
    if found["type"] is None:
        raise NotRunError(f"weights {' '.join(map(str, key))}")
    ext = weight.get("ext") or {}
    if weight["scope"] == "dual_scale":
        return found | {"dual_block": ext["dual_block_size"]}
    if weight.get("method", "minmax") != "minmax":
        found["method"] = weight["method"]
    found |= {name: ext[name] for name in WEIGHT if name in ext}
    if weight["scope"] == "per_group":
        found.setdefault("group_size", 128)
    if not weight.get("symmetric", True):
        found["symmetric"] = False
    if act.get("scope") in ("per_tensor", "pd_mix"):
        found["act_method"] = 2 if act.get("method") == "histogram" else 1
        found["act_symmetric"] = bool(act.get("symmetric"))
        found["aggregation"] = (act.get("ext") or {}).get("aggregation_type", "max")
    return found


__all__ = ["NotRunError", "steps_of"]

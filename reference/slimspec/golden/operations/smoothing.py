"""Smoothing scales and their folding into norms and linears."""

from numpy.typing import NDArray

from slimspec.smooth.fold import (
    Affine,
    fold_consumer,
    fold_norm,
    fold_producer,
    shift_consumer,
    shift_producer,
)
from slimspec.smooth.scales import grouped_max_scale, grouped_mean, smooth_scale

from .model import Attributes, Operation, Tensors


def _affine(made: Affine) -> dict[str, NDArray]:
    rest = {} if made.bias is None else {"bias_out": made.bias}
    return {"weight_out": made.weight} | rest


def _scale(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    smallest = a.get("smallest", 1e-5)
    return {"scale": smooth_scale(t["a"], t["w"], a["alpha"], a.get("beta"), smallest)}


def _grouped(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    heads = a["heads"], a["kv_heads"]
    if a["method"] == "max":
        o, v = grouped_max_scale(t["a"], t["w"], a["alpha"], a["beta"], *heads)
    else:
        o, v = grouped_mean(smooth_scale(t["a"], t["w"], a["alpha"], a.get("beta")), *heads)
    return {"o": o, "v": v}


def _norm(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return _affine(fold_norm(Affine(t["weight"], t["bias"]), t["scale"], a["variant"]))


def _producer(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return _affine(fold_producer(Affine(t["weight"], t["bias"]), t["scale"], a["variant"]))


def _consumer(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"weight_out": fold_consumer(t["weight"], t["scale"])}


def _shift_in(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return _affine(shift_consumer(Affine(t["weight"], t["bias"]), t["shift"]))


def _shift_out(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return _affine(shift_producer(Affine(t["weight"], t["bias"]), t["shift"], t["scale"]))


_BOTH = ("weight_out", "bias_out")
OPERATIONS = (
    Operation("smooth_scale", "scale = max(a^alpha / w^beta, smallest)", _scale, ("scale",)),
    Operation("grouped_smooth_scale", "one scale per key/value head", _grouped, ("o", "v")),
    Operation("fold_norm", "weight / s, bias / s (v1: times the rounded 1/s)", _norm, _BOTH),
    Operation("fold_producer", "W / s[:, None], b / s (v1: times 1/s)", _producer, _BOTH),
    Operation("fold_consumer", "W·s[None, :]", _consumer, ("weight_out",)),
    Operation("shift_consumer", "b + shift·Wᵀ", _shift_in, _BOTH),
    Operation("shift_producer", "W / s[:, None], (b - shift) / s", _shift_out, _BOTH),
)

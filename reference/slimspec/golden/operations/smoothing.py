"""Smoothing scales, their search, and their folding into norms and linears."""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import to_dtype
from slimspec.smooth.fake_quant import fake_int8_rows, fake_int8_tensor
from slimspec.smooth.flatquant import flat_codes, weight_params
from slimspec.smooth.flex import FlexLoss, search_alpha, search_alpha_beta
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
    return _affine(fold_norm(Affine(t["weight"], t.get("bias")), t["scale"], a["variant"]))


def _producer(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return _affine(fold_producer(Affine(t["weight"], t.get("bias")), t["scale"], a["variant"]))


def _consumer(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"weight_out": fold_consumer(t["weight"], t["scale"])}


def _shift_in(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return _affine(shift_consumer(Affine(t["weight"], t.get("bias")), t["shift"]))


def _shift_out(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return _affine(shift_producer(Affine(t["weight"], t.get("bias")), t["shift"], t["scale"]))


def _search(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    loss = FlexLoss(t["x"], t["w"], act_symmetric=a["variant"] == "v1")
    best = search_alpha_beta(loss) if a["variant"] == "v1" else search_alpha(loss)
    found = {"alpha": best.alpha, "beta": best.beta, "loss": best.loss}
    return {name: np.array([value], np.float64) for name, value in found.items()}


def _fake(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"y": {"row": fake_int8_rows, "tensor": fake_int8_tensor}[a["scope"]](t["x"])}


def _flat(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    x = t["x"]
    scale, zero = (to_dtype(v, x.dtype) for v in weight_params(x, bits=a["bits"]))
    q = flat_codes(x, scale, zero, bits=a["bits"], signed=a["signed"])
    return {"q": q, "scale": scale}


_BOTH = ("weight_out", "bias_out")
OPERATIONS = (
    Operation("smooth_scale", "scale = max(a^alpha / w^beta, smallest)", _scale, ("scale",)),
    Operation("grouped_smooth_scale", "one scale per key/value head", _grouped, ("o", "v")),
    Operation(
        "flex_search", "alpha, then beta, of the least rms(Q(x/s)·Q(W·s)ᵀ - x·Wᵀ), grid of 0.05",
        _search, ("alpha", "beta", "loss"),
    ),
    Operation("fake_quantize", "Q(x): int8 per row ±127, or per tensor asymmetric", _fake, ("y",)),
    Operation("quantize_flat", "scale = amax/top per row, q = clip(rint(x/scale))", _flat,
              ("q", "scale")),
    Operation("fold_norm", "weight / s, bias / s (v1: times the rounded 1/s)", _norm, _BOTH),
    Operation("fold_producer", "W / s[:, None], b / s (v1: times 1/s)", _producer, _BOTH),
    Operation("fold_consumer", "W·s[None, :]", _consumer, ("weight_out",)),
    Operation("shift_consumer", "b + shift·Wᵀ", _shift_in, _BOTH),
    Operation("shift_producer", "W / s[:, None], (b - shift) / s", _shift_out, _BOTH),
)  # fmt: skip

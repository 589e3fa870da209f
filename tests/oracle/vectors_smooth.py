"""Oracle folders of smoothing and rotation: folder name -> routine of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from slimspec.numeric import to_dtype
from slimspec.quantize.affine import qparams
from slimspec.smooth.fake_quant import fake_int8_rows, fake_int8_tensor
from slimspec.smooth.flatquant import flat_codes, weight_params
from slimspec.smooth.flex import FlexLoss, alpha_curve, search_alpha, search_alpha_beta
from slimspec.smooth.hadamard import (
    RotationMode,
    decompose,
    hadamard_transform,
    rotate_inputs,
    rotate_outputs,
    rotation,
    walsh,
)
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
    act, w = _input(case, tensors, "act"), _input(case, tensors, "w")
    loss = FlexLoss(act, w, act_symmetric=case["params"].get("act_sym", True))
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
    best = search_alpha(FlexLoss(act, w, act_symmetric=False), limit=1.0)  # the first pass only
    improved = "tensor" in case["out"]["o1"]  # else the limit itself, a plain number
    return {"o0": best.alpha, "o1": np.float32(best.loss) if improved else best.loss}


def v0_quant_utils(case: Case, tensors: Tensors) -> Outputs:
    """weight_quant of the producer fails on every recorded call; there is nothing to reproduce."""
    p, x = case["params"], _input(case, tensors, "x")
    if p["fn"] != "linear_quant_params":
        raise ValueError(f"{p['fn']} has no counterpart: the producer's own call fails")
    scale, offset = qparams(
        x.min(axis=1), x.max(axis=1), bits=p["bit"], symmetric=p["sym"], variant="v0"
    )
    return {"o0": scale, "o1": offset[0] if p["sym"] else offset}  # one 0 for all rows


def flatquant(case: Case, tensors: Tensors) -> Outputs:
    """Symmetric row scales, then the asymmetric quantizer with zero 0."""
    p, x = case["params"], _input(case, tensors, "x")
    scale, zero = (to_dtype(v, x.dtype) for v in weight_params(x, bits=p["bits"]))
    q = flat_codes(x, scale, zero, bits=p["bits"], signed=p["is_signed"])
    return {"scale": scale, "zero": zero, "o0": q, "o1": scale, "o2": zero}


def v1_hadamard(case: Case, tensors: Tensors) -> Outputs:
    p = case["params"]
    if p["fn"] == "matmul_had_u(eye)":
        return {"out": hadamard_transform(np.eye(p["n"]))}
    if p["fn"] == "walsh_matrix":
        return {"out": walsh(p["n"])}
    if p["fn"] == "get_decompose_dim":
        return {"out": list(decompose(p["n"]))}
    if p["fn"] == "create_rot":
        return {
            "out": rotation(
                p["size"],
                mode=RotationMode[p["mode"]],
                block_size=p["block_size"],
                rot_step=p["rot_step"],
                seed=p["seed"],
            )
        }
    w, bias, matrix = (_input(case, tensors, name) for name in ("W", "b", "rot"))
    tall, long = _left_operands(w, bias, matrix.shape[0])
    return {
        "right": rotate_inputs(w, matrix),
        "left": rotate_outputs(tall, matrix),
        "left_bias": rotate_outputs(long, matrix),
    }


def _left_operands(w: np.ndarray, bias: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The recorder stacked copies of the first columns, and of the bias, to the rotation's size."""
    times = size // w.shape[0]
    return np.tile(w[:, :size], (times, 1)), np.tile(bias, times)


VECTORS: dict[str, Callable[[Case, Tensors], Outputs]] = {
    "anti_flex_smooth_so": v0_flex,
    "anti_quant_utils_so": v0_quant_utils,
    "flatquant_asym_quant": flatquant,
    "v1_hadamard": v1_hadamard,
    "v1_flex_alpha_beta_search": v1_flex,
    "v1_smooth_scale_functions": v1_smooth_scale,
}


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def _bits_or_nan(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return (found == expected) | (np.isnan(found) & np.isnan(expected))


def _scale(case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Exact, but for float32 square roots, which the producer takes from a vendor library.

    Each of the two roots is at most one last digit off (2^-23), the quotient rounds (2^-24 on each
    side), and so do the sum and the division of a group's mean: 4·2^-23 of the scale in all.
    """
    exponents = (case["params"].get("alpha"), case["params"].get("beta"))
    if found.dtype != np.float32 or 0.5 not in exponents:
        return _bits_or_nan(found, expected)
    return np.abs(_wide(found) - _wide(expected)) <= 4 * 2.0**-23 * np.abs(_wide(expected))


def _loss(case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """loss = rms(x̂Ŵᵀ - xWᵀ) / rms(xWᵀ), two float32 products of k terms in an unknown order.

    Two orders of one product differ by at most 2k·2^-24·(|x||W|ᵀ) per element; both products enter
    the numerator and one the denominator, with a loss below 1: 6k·2^-24·rms(|x||W|ᵀ)/rms(xWᵀ), and
    twice that for |x̂||Ŵ|ᵀ <= 2|x||W|ᵀ. In 16-bit dtypes the products round to the same values but
    for a boundary case: those are asked to be equal.
    """
    if case["params"].get("fn", "search") not in ("search", "scale_descale", "search_alpha_beta"):
        return _bits_or_nan(found, expected)
    x, w = (_input(case, tensors, name) for name in ("act", "w"))
    if x.dtype != np.float32:
        return _bits_or_nan(found, expected)
    x, w = _wide(x), _wide(w)
    with np.errstate(invalid="ignore"):  # a product of zeros; infinite losses
        ratio = np.sqrt(np.mean((np.abs(x) @ np.abs(w).T) ** 2) / np.mean((x @ w.T) ** 2))
        bound = 12 * x.shape[1] * 2.0**-24 * ratio
        near = np.abs(_wide(found) - _wide(expected)) <= bound
    return near | _bits_or_nan(found, expected)


def _v0_flex(case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """o0 and o1 are losses, the chosen alpha (equal), or grouped scales (as `_scale`)."""
    if case["params"]["fn"] == "reduce_scales_for_mqga":
        return _scale(case, tensors, found, expected)
    if found.dtype == np.float64:  # alpha
        return found == expected
    return _loss(case, tensors, found, expected)


def _transform(case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Transforms exact; Walsh rows as a set; rotations within the error of their products.

    The producer sorts Walsh rows by equal keys with a sort that is not stable, so their order means
    nothing. A rotation of rot_step r is up to 2^(r-1)·2 products of orthogonal n×n matrices: an
    entry of one product is off by n·2^-24 at most (Cauchy-Schwarz), later factors spread that over
    a row, sqrt(n)·n·2^-24; two such results differ by twice as much.
    """
    p = case["params"]
    if p["fn"] == "walsh_matrix":
        same = sorted(map(tuple, found.tolist())) == sorted(map(tuple, expected.tolist()))
        return np.full(found.shape, same)
    if p["fn"] != "create_rot" or p["mode"] == "HADAMARD":
        return found == expected
    products = 2 ** p["rot_step"]
    return np.abs(_wide(found) - _wide(expected)) <= products * p["size"] ** 1.5 * 2.0**-23


def _rotated(name: str) -> Callable[[Case, Tensors, np.ndarray, np.ndarray], np.ndarray]:
    """Two float32 orders of k terms differ by 2k·2^-24·|W||R|; the dtype may add one last digit."""

    def close(case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
        w, bias, matrix = (np.abs(_wide(_input(case, tensors, n))) for n in ("W", "b", "rot"))
        tall, long = _left_operands(w, bias, matrix.shape[0])
        if name == "right":
            reach = w @ np.kron(np.eye(w.shape[1] // matrix.shape[0]), matrix)
        else:
            reach = matrix.T @ (tall if name == "left" else long)
        digit = float(ml_dtypes.finfo(found.dtype).eps) * np.abs(_wide(expected))
        bound = matrix.shape[0] * 2.0**-23 * reach + digit
        return np.abs(_wide(found) - _wide(expected)) <= bound

    return close


BOUNDS = {
    "anti_flex_smooth_so": {"o1": (_v0_flex, 1.0), "o0": (_v0_flex, 1.0)},
    "v1_flex_alpha_beta_search": {"mse": (_loss, 1.0), "curve": (_loss, 0.995)},
    "v1_hadamard": {
        "out": (_transform, 1.0),
        **{name: (_rotated(name), 1.0) for name in ("right", "left", "left_bias")},
    },
    "v1_smooth_scale_functions": dict.fromkeys(("out", "o", "v"), (_scale, 1.0)),
}

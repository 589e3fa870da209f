"""Oracle folders of the sparse formats: folder name -> routine of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from slimspec.numeric import as_float32, to_dtype
from slimspec.observe.recall_window import recall_window
from slimspec.sparse.admm import InputStatistics, w16a16s_weight
from slimspec.sparse.codec import as_bytes
from slimspec.sparse.cosparse import quantize_cosparse
from slimspec.sparse.fractal import round_up
from slimspec.sparse.lowbit import LowBitOptions, quantize_lowbit
from slimspec.sparse.lowbit_groups import (
    GroupWeight,
    TwoLevels,
    quantize_asymmetric_rows,
    quantize_groups,
    quantize_groups_hqq,
    quantize_symmetric,
    quantize_two_levels,
)
from slimspec.sparse.mantissa import reduce_mantissa, split_float16
from slimspec.sparse.nz import nd_to_nz
from slimspec.sparse.outliers import fraction_mask, sigma_mask
from slimspec.sparse.power import quantize_power

Case = dict[str, Any]
Tensors = Mapping[str, np.ndarray]
Outputs = dict[str, Any]

GROUP = 32  # rows of the recorded group helpers


def _input(case: Case, tensors: Tensors, name: str) -> np.ndarray:
    return tensors[case["in"][name]["tensor"]]


def transform_nd2nz(case: Case, tensors: Tensors) -> Outputs:
    p = case["params"]
    if p.get("fn") == "round_up":
        return {"out": round_up(p["val"], p["align"])}
    rows, columns = p["block_size"]
    return {"out": nd_to_nz(as_bytes(_input(case, tensors, "w")), (rows, columns))}


def lowbit_masks(case: Case, tensors: Tensors) -> Outputs:
    """The tool gives masks as float32, or as the indices where they are set."""
    p = case["params"]
    (w,) = (_input(case, tensors, name) for name in case["in"])
    if p["fn"] == "recall_window":
        ends = recall_window(w, p["ratio"])
        shapes = [end["shape"] for end in case["out"]["out"]["list"]]
        return {"out": [end.reshape(shape) for end, shape in zip(ends, shapes, strict=True)]}
    if p["fn"] == "compute_outlier_mask":
        mask, bound = fraction_mask(w, p["fraction"], per_row=p["per_channel"])
        bound = bound if p["per_channel"] else bound[0]  # 0-d there
    else:
        mask, bound = sigma_mask(w, p["threshold"])
    if p["fn"] == "get_mask_by_sigma":
        return {"out": [[index.astype(np.int64) for index in np.nonzero(mask)], bound]}
    return {"out": [mask.astype(np.float32), bound]}


def lowbit_simple_quant(case: Case, tensors: Tensors) -> Outputs:
    p, x = case["params"], _input(case, tensors, "x")
    if p["sym"]:
        size = np.abs(x)
        amax = size.max(axis=1, keepdims=True) if p["amax"] == "row" else np.asarray(size.max())
        bound = p["max_bound"] or 2 ** (p["num_bits"] - 1) - 1
        made = quantize_symmetric(x, amax, bound)
    else:
        made = quantize_asymmetric_rows(x, p["num_bits"])
    if p["return_directly"]:
        return {"o0": made.approximate}
    return {"o0": made.scale, "o1": made.q, "o2": made.offset}


def _groups(made: GroupWeight, shape: tuple[int, ...], per_row: tuple[int, ...]) -> Outputs:
    return {
        "o0": made.approximate.reshape(shape),
        "o1": made.q.reshape(shape),
        "o2": made.scale.reshape(per_row),
        "o3": made.offset.reshape(per_row),
    }


def _two_levels(made: TwoLevels, symmetric: bool, hqq: bool) -> tuple[list, list]:
    """A symmetric second offset is recorded as int64 zeros."""
    offset = made.offset.astype(np.int64) if symmetric and not hqq else made.offset
    return [made.scale, made.second], [np.zeros_like(made.scale), offset]


def lowbit_per_group_helpers(case: Case, tensors: Tensors) -> Outputs:
    p, w = case["params"], _input(case, tensors, "weight")
    symmetric, bits = p["w_sym"], p["num_bits"]
    if p["fn"] == "simple_quant_per_group":
        groups = w.reshape(-1, GROUP)
        made = quantize_groups(groups, bits, symmetric=symmetric, integer_scale=p["progressive"])
        return _groups(made, groups.shape, (-1, 1))
    if p["fn"] == "hqq_quantize":
        made = quantize_groups_hqq(w, bits, p["group_size"], symmetric=symmetric)
        return _groups(made, w.shape, (w.shape[0], -1))
    levels = quantize_two_levels(w, p["group_size"], symmetric=symmetric)
    scales, offsets = _two_levels(levels, symmetric, hqq=False)
    return {"o0": levels.approximate, "o1": levels.q, "o2": scales, "o3": offsets}


def lowbit_quant_one_weight(case: Case, tensors: Tensors) -> Outputs:
    w, kwargs = _input(case, tensors, "weight"), dict(case["params"]["kwargs"])
    bits, group_size = kwargs.pop("num_bits"), kwargs.pop("group_size", 0)
    before = w.copy()
    if not group_size:
        made = quantize_lowbit(w, LowBitOptions(**kwargs))
        zeros = np.zeros_like(made.scale)
        found = {"o0": made.approximate, "o1": made.scale, "o2": made.q, "o3": zeros}
    else:
        found = _grouped(as_float32(w), bits, group_size, kwargs)
    assert np.array_equal(w.view(np.uint8), before.view(np.uint8))
    return found | {"weight_after_call": w}


def _grouped(w: np.ndarray, bits: int, group_size: int, kwargs: dict[str, Any]) -> Outputs:
    symmetric, hqq = kwargs["w_sym"], kwargs.get("use_hqq", False)
    if kwargs.get("progressive"):
        levels = quantize_two_levels(w, group_size, symmetric=symmetric, hqq=hqq)
        scales, offsets = _two_levels(levels, symmetric, hqq)
        return {"o0": levels.approximate, "o1": scales, "o2": levels.q, "o3": offsets}
    if hqq:
        made = quantize_groups_hqq(w, bits, group_size, symmetric=symmetric)
    else:
        made = quantize_groups(w.reshape(-1, group_size), bits, symmetric=symmetric)
    found = _groups(made, w.shape, (w.shape[0], -1))
    return {"o0": found["o0"], "o1": found["o2"], "o2": found["o1"], "o3": found["o3"]}


def sparsequant(case: Case, tensors: Tensors) -> Outputs:
    w, kwargs = _input(case, tensors, "weight"), case["params"]["kwargs"]
    if kwargs.get("isolate_outlier_amax"):
        raise ValueError("bulk and outliers have one scale each: there is no isolated form")
    fraction = kwargs.get("fraction", 0.01)
    if kwargs.get("powerquant", True):
        made = quantize_power(w, fraction)
    else:
        made = quantize_cosparse(w, fraction, per_channel=kwargs.get("per_channel", False))
    # A row of zeros is 0 / 0 in the tool; our integers are what its saver casts that NaN to.
    zero, nan = made.scale == 0, np.float32(np.nan)
    return {
        "o0": np.where(zero, nan, made.approximate),
        "o1": made.scale,
        "o2": np.where(zero, nan, made.q.astype(np.float32)),
        "o3": np.zeros((), np.float32),
    }


def admm_pruner(case: Case, tensors: Tensors) -> Outputs:
    w = _input(case, tensors, "w")
    statistics = InputStatistics(w.shape[1])
    for item in case["in"]["xs"]["list"]:
        statistics.add(tensors[item["tensor"]])
    return {"weight": w16a16s_weight(w, statistics, case["params"]["ratio"])}


def admm_quantize_l2(case: Case, tensors: Tensors) -> Outputs:
    p, w = case["params"], _input(case, tensors, "w")
    if p["fn"] == "split_half":
        mantissa, exponent = split_float16(to_dtype(as_float32(w), np.float16))
        return {"mant": mantissa, "exp": exponent}
    keep = _input(case, tensors, "mask") != 0 if "mask" in case["in"] else None
    return {"out": reduce_mantissa(w, keep, bits=p["threshold"], nearest=p["rtn"])}


VECTORS: dict[str, Callable[[Case, Tensors], Outputs]] = {
    "lowbit_masks": lowbit_masks,
    "lowbit_per_group_helpers": lowbit_per_group_helpers,
    "lowbit_quant_one_weight_by_outliers": lowbit_quant_one_weight,
    "lowbit_simple_quant": lowbit_simple_quant,
    "sparsequant_quant_one_weight_by_outliers": sparsequant,
    "transform_nd2nz": transform_nd2nz,
    "v1_admm_pruner": admm_pruner,
    "v1_admm_quantize_l2": admm_quantize_l2,
}


def _coarse(found: np.ndarray) -> np.ndarray:
    """Compare float32 sigma bounds without their last twelve bits.

    torch takes the root of the variance from a vendor library that is not correctly rounded: a
    root just above a tie comes out one digit lower, in about one row of 200.
    """
    if found.dtype != np.float32:
        return found
    bits = found.view(np.uint32) + np.uint32(1 << 11)
    return bits >> np.uint32(12)


DECODE = {"lowbit_masks": {"out": _coarse}}


def _equal(case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return found == expected


# The pruner solves in float32 with products and an inverse whose order is the library's. Where two
# weights are equal, or nearly, the other one may become zero, and the rest of both rows moves.
BOUNDS = {"v1_admm_pruner": {"weight": (_equal, 0.995)}}

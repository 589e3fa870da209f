"""Oracle folders of the weight solvers: folder name -> routine of ours on the recorded inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from slimspec.numeric import to_dtype
from slimspec.quantize.affine import dequantize, dequantize_rows
from slimspec.quantize.gptq import quantize_gptq
from slimspec.quantize.hqq import HqqOptions, optimize_hqq
from slimspec.quantize.minmax import quantize_minmax
from slimspec.quantize.ssz import STEPS, quantize_ssz

Case = dict[str, Any]
Tensors = Mapping[str, np.ndarray]
Outputs = dict[str, Any]


def _input(case: Case, tensors: Tensors, name: str) -> np.ndarray:
    return tensors[case["in"][name]["tensor"]]


def _inputs(case: Case, tensors: Tensors, name: str) -> list[np.ndarray]:
    return [tensors[item["tensor"]] for item in case["in"][name]["list"]]


def _bits(case: Case) -> int:
    return {"int8": 8, "int4": 4}[case["params"]["q_dtype"]]


def v1_ssz(case: Case, tensors: Tensors) -> Outputs:
    w = _input(case, tensors, "w")
    weight = quantize_ssz(
        w,
        bits=_bits(case),
        steps=case["params"]["ext"].get("step") or STEPS,
        error_dtype=w.dtype,
    )
    return {
        "scale": weight.scale.reshape(case["out"]["scale"]["shape"]),  # 0-d there for one row
        "offset": weight.offset[:, 0],
        "q": weight.q,
        "dq": dequantize(weight.q, weight.scale, weight.offset),
    }


def v1_gptq(case: Case, tensors: Tensors) -> Outputs:
    """The recorded "dq" is what the module returns while it collects inputs: the weight itself."""
    w = _input(case, tensors, "w")
    params = case["params"]
    weight = quantize_gptq(
        w,
        _inputs(case, tensors, "xs"),
        bits=_bits(case),
        symmetric=params["symmetric"],
        variant="v1",
        granularity="group" if params["scope"] == "per_group" else "channel",
        **params.get("ext", {}),
    )
    per_row = params["scope"] == "per_channel"
    return {
        "scale": weight.scale[:, 0] if per_row else weight.scale,
        "offset": weight.offset[:, 0] if per_row else weight.offset,
        "q": weight.q,
        "dq": w,
    }


def legacy_gptq(case: Case, tensors: Tensors) -> Outputs:
    params, w = case["params"], _input(case, tensors, "weight")
    per_group = params["group_size"] > 0
    weight = quantize_gptq(
        w,
        [_input(case, tensors, "X")],
        bits=params["bit"],
        symmetric=params["is_sym"],
        variant="v0",
        granularity="group" if per_group else "tensor" if params["mm_tensor"] else "channel",
        group_size=max(params["group_size"], 0),
    )
    return {
        "o0": to_dtype(weight.q, w.dtype),
        "o1": dequantize_rows(weight.q, weight.scale, weight.offset),
        "o2": weight.scale,
        "o3": weight.offset,
    }


def legacy_hqq(case: Case, tensors: Tensors) -> Outputs:
    params, w = case["params"], _input(case, tensors, "weight")
    start = quantize_minmax(
        w,
        bits=params["bit"],
        symmetric=False,
        variant="v0",
        granularity="tensor" if params["mm_tensor"] else "channel",
    )
    scale, offset = optimize_hqq(
        w,
        start.scale,
        start.offset,
        bits=params["bit"],
        per_tensor=params["mm_tensor"],
        options=HqqOptions(scale=params["is_scale"], zero=params["is_zero"]),
    )
    shapes = (case["out"][name]["shape"] for name in ("o0", "o1"))  # an improved one is 0-d there
    scale, offset = (x.reshape(shape) for x, shape in zip((scale, offset), shapes, strict=True))
    return {"scale0": start.scale, "zero0": start.offset, "o0": scale, "o1": offset}


VECTORS: dict[str, Callable[[Case, Tensors], Outputs]] = {
    "legacy_init_weight_quant_hessian": legacy_gptq,
    "legacy_optimize_weights_proximal_hqq": legacy_hqq,
    "v1_WeightGptq": v1_gptq,
    "v1_WeightPerChannelSsz": v1_ssz,
}


def _equal(case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return found == expected


def _one_code(case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """min or max of the compensated weight moves by at most one code: scale by scale / top."""
    top = 2 ** (case["params"]["bit"] - 1) - 1
    wide = expected.astype(np.float64)
    return np.abs(found.astype(np.float64) - wide) <= np.abs(wide) / top


def _one_step(case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """A zero point round_half_even(-min / scale) with min one code off moves by at most 1."""
    return np.abs(found.astype(np.float64) - expected.astype(np.float64)) <= 1


def _codes_of_one_factor(
    case: Case, tensors: Tensors, found: np.ndarray, expected: np.ndarray
) -> np.ndarray:
    """float32 is exact; in 16 bits entries of the factor may round the other way (see below)."""
    if case["params"]["dtype"] == "float32":
        np.testing.assert_array_equal(found, expected)
    return found == expected


# The Hessian is a float32 matrix product and its inverse factor comes from LAPACK: both depend on
# the library's order of sums. An entry of the factor that lies within that error of a rounding
# boundary of a 16-bit dtype rounds the other way, which turns single codes (a flip of U[7, 7]
# reproduces one recorded float16 case exactly). Integers agree on at least 99.5 %.
BOUNDS = {
    "legacy_init_weight_quant_hessian": {
        "o0": (_codes_of_one_factor, 0.995),
        "o1": (_codes_of_one_factor, 0.995),
        "o2": (_one_code, 1.0),
        "o3": (_one_step, 1.0),
    },
    "v1_WeightGptq": {"q": (_equal, 0.995)},
}

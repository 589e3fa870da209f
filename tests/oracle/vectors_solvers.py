"""Oracle folders of the weight solvers: folder name -> routine of ours on the recorded inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from slimspec.quantize.affine import dequantize
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
    weight = quantize_ssz(w, bits=_bits(case), steps=case["params"]["ext"].get("step") or STEPS)
    return {
        "scale": weight.scale[:, 0],
        "offset": weight.offset[:, 0],
        "q": weight.q,
        "dq": dequantize(weight.q, weight.scale, weight.offset),
    }


VECTORS: dict[str, Callable[[Case, Tensors], Outputs]] = {
    "v1_WeightPerChannelSsz": v1_ssz,
}

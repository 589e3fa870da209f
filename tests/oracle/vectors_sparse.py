"""Oracle folders of the sparse formats: folder name -> routine of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from slimspec.sparse.codec import as_bytes
from slimspec.sparse.nz import nd_to_nz, round_up

Case = dict[str, Any]
Tensors = Mapping[str, np.ndarray]
Outputs = dict[str, Any]


def _input(case: Case, tensors: Tensors, name: str) -> np.ndarray:
    return tensors[case["in"][name]["tensor"]]


def transform_nd2nz(case: Case, tensors: Tensors) -> Outputs:
    p = case["params"]
    if p.get("fn") == "round_up":
        return {"out": round_up(p["val"], p["align"])}
    rows, columns = p["block_size"]
    return {"out": nd_to_nz(as_bytes(_input(case, tensors, "w")), (rows, columns))}


VECTORS: dict[str, Callable[[Case, Tensors], Outputs]] = {
    "transform_nd2nz": transform_nd2nz,
}

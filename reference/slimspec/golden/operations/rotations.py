"""Hadamard transforms and the folding of rotations and norm weights into linears."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.smooth.fold import fuse_norm
from slimspec.smooth.hadamard import bake_mean, hadamard_transform, rotate_inputs, rotate_outputs

from .model import Attributes, Operation, Tensors


def _transform(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"y": hadamard_transform(t["x"])}


def _inputs(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"weight_out": rotate_inputs(t["weight"], t["rotation"])}


def _outputs(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"weight_out": rotate_outputs(t["weight"], t["rotation"])}


def _fuse(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"weight_out": fuse_norm(t["weight"], t["norm_weight"])}


def _mean(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"weight_out": bake_mean(t["weight"])}


def _rows(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    shape = (sizes.get("m", 4), sizes.get("k", 64))
    return {"x": random.standard_normal(shape).astype(np.float32)}, dict(attributes)


OPERATIONS = (
    Operation(
        "hadamard_transform", "y = x·Hᵀ/sqrt(n) over the last axis", _transform, ("y",), _rows
    ),
    Operation("rotate_inputs", "W·R, R repeated along the diagonal", _inputs, ("weight_out",)),
    Operation("rotate_outputs", "Rᵀ·W, R repeated along the diagonal", _outputs, ("weight_out",)),
    Operation("fuse_norm", "W·diag(g), one rounding", _fuse, ("weight_out",)),
    Operation("bake_mean", "W minus the mean over its rows", _mean, ("weight_out",)),
)

"""Rotations that an engine does at run time (QuaRot online), before o_proj and some down_proj.

    o_proj      W·(R ⊗ I), R over the heads
    down_proj   W·(M ⊗ N), M and N of the two sizes that the width falls into

R and M are blocks of max_tp_size, so that a rank has whole blocks. The engine turns the inputs by
the same matrices, which are stored beside the linears.

Source: msmodelslim processor/quarot/offline_quarot/laos_online.py:80-180,
processor/quarot/common/quarot_utils.py:235-266; measured on a recorded directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.model import Architecture
from slimspec.numeric import as_float32, to_dtype
from slimspec.smooth.hadamard import decompose, rotate_inputs, rotation

from .calibration.source import FoldedWeights

Matrix = NDArray[np.float32]
FAMILIES = ("qwen3",)


@dataclass(frozen=True)
class OnlineStep:
    """What is turned at run time.

    Attributes:
        max_tp_size: ranks that a rotation can be cut for.
        down_proj_layers: layers whose down_proj is turned.
    """

    max_tp_size: int = 4
    down_proj_layers: tuple[int, ...] = ()


@dataclass
class OnlineRotations:
    """Rotations by linear.

    Attributes:
        max_tp_size: as in the step.
        heads: R by o_proj.
        kronecker: M and N by down_proj.
    """

    max_tp_size: int
    heads: dict[str, Matrix] = field(default_factory=dict)
    kronecker: dict[str, tuple[Matrix, Matrix]] = field(default_factory=dict)

    def tensors(self) -> Iterable[tuple[str, Matrix]]:
        """Name and rotation, as they are stored."""
        for name, matrix in self.heads.items():
            yield f"{name}.heads_rotation", matrix
        for name, matrices in self.kronecker.items():
            for part, matrix in zip("mn", matrices, strict=True):
                yield f"{name}.kronecker_rotation_{part}", matrix

    def metadata(self) -> dict[str, Any]:
        """The member `quarot` of the description's metadata."""
        found: dict[str, Any] = {"max_tp_size": self.max_tp_size}
        for member, names in (("heads", self.heads), ("kronecker", self.kronecker)):
            if names:
                found[f"{member}_rotation"] = {"layers": list(names)}
        return {"quarot": found}


def rotate_online(weights: FoldedWeights, a: Architecture, step: OnlineStep) -> OnlineRotations:
    """Fold the rotations into `weights`; return them.

    Raises: CheckpointError: a model that the service does not turn, a size that does not suit, a
        layer that is not there.
    """
    if a.model_type not in FAMILIES:
        known = " and ".join(FAMILIES)
        raise CheckpointError(
            f"{a.where}: rotate: online: found {a.model_type}, the service has it for {known} only"
        )
    for layer in step.down_proj_layers:
        if layer >= a.layers:
            raise CheckpointError(
                f"{a.where}: rotate: down_proj_layers: found {layer}, expected 0 to {a.layers - 1}"
            )
    try:
        heads = rotation(a.heads, block_size=step.max_tp_size)
        m, n = _pair(weights, step) if step.down_proj_layers else (heads, heads)
    except ValueError as error:
        raise CheckpointError(f"{a.where}: rotate: online: {error}") from None
    found = OnlineRotations(step.max_tp_size)
    across = np.kron(heads, np.eye(a.head_dim, dtype=np.float32))
    for layer in range(a.layers):
        name = f"model.layers.{layer}.self_attn.o_proj"
        weights.folds[f"{name}.weight"].append(partial(rotate_inputs, rotation_matrix=across))
        found.heads[name] = heads
    for layer in sorted(set(step.down_proj_layers)):
        name = f"model.layers.{layer}.mlp.down_proj"
        weights.folds[f"{name}.weight"].append(partial(turn_kronecker, m=m, n=n))
        found.kronecker[name] = (m, n)
    return found


def _pair(weights: FoldedWeights, step: OnlineStep) -> tuple[Matrix, Matrix]:
    """M and N for the width of down_proj."""
    sizes = decompose(weights.stored("model.layers.0.mlp.down_proj.weight").shape[1])
    return rotation(sizes[0], block_size=step.max_tp_size), rotation(sizes[1])


def turn_kronecker(w: NDArray, m: Matrix, n: Matrix) -> NDArray:
    """Return W·(M ⊗ N) in two steps, each rounded to T as the rotations are.

    Args: w [r, p·q] of T; m [p, p], n [q, q]. Returns: [r, p·q] of T.
    """
    left, right = (as_float32(to_dtype(x, w.dtype)) for x in (m, n))
    blocks = as_float32(w).reshape(-1, len(m), len(n))  # (r, p, q)
    inner = as_float32(to_dtype(blocks @ right, w.dtype))
    return to_dtype(left.T @ inner, w.dtype).reshape(w.shape)

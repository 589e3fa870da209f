"""Low-rank branches of a whole model (svd_res): factors of each linear, residuals in their place.

Source: msmodelslim processor/svd_residual/processor.py (a seed before each layer, its linears in
the order of the module).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial

from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.numeric.torch_random import TorchStream
from slimspec.quantize.svd_lowrank import SEED, LowRank, residual, svd_lowrank

from .calibration.source import FoldedWeights, spooled
from .recipe import Rule

SUFFIX = "_SVD"
ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def split_model(weights: FoldedWeights, rules: Mapping[str, Rule], rank: int) -> dict[str, LowRank]:
    """Fold the residuals of all linears with a branch into `weights`; return their factors.

    Raises: CheckpointError: a rank that a weight does not have, NaN or infinity.
    """
    layers: dict[str, list[str]] = defaultdict(list)
    for name, rule in rules.items():
        if rule.type.endswith(SUFFIX):
            layers[".".join(name.split(".")[:3])].append(name)
    found = {}
    for names in layers.values():
        stream = TorchStream(SEED)
        for name in sorted(names, key=_place):
            try:
                made = svd_lowrank(weights.stored(f"{name}.weight"), rank, stream, f"{name}.weight")
            except ValueError as error:
                raise CheckpointError(f"{weights.checkpoint.path}: {error}") from None
            factors = LowRank(spooled(made.l1), spooled(made.l2))
            weights.folds[f"{name}.weight"].append(partial(_residual, factors=factors))
            found[name] = factors
    return found


def _residual(w: NDArray, factors: LowRank) -> NDArray:
    return residual(w, factors)


def _place(name: str) -> int:
    role = name.rpartition(".")[2]
    return ORDER.index(role) if role in ORDER else len(ORDER)


__all__ = ["SUFFIX", "split_model"]

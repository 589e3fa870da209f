"""Sparse float weights (W16A16S) in a calibration run: prune a layer from the inputs it saw.

Source: math.md 7.3; msmodelslim processor/sparse/float_sparse.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.sparse.admm import InputStatistics, w16a16s_weight

from .calibration.source import FoldedWeights
from .recipe import Rule

PRUNED = "W16A16S"


def prune_layer(
    weights: FoldedWeights,
    seen: Mapping[str, list[NDArray]],
    rules: Mapping[str, Rule],
    ratio: float,
) -> None:
    """Put sparse weights in the place of those of a layer.

    Args: seen: inputs (t, k) of its linears per text; ratio: share of zeros.
    Raises: CheckpointError: a weight or input that cannot be pruned.
    """
    for name, batches in seen.items():
        rule = rules.get(name)
        if rule is None or rule.type != PRUNED:
            continue
        statistics = InputStatistics(batches[0].shape[-1])
        for x in batches:
            statistics.add(x)
        try:
            made = w16a16s_weight(weights.stored(f"{name}.weight"), statistics, ratio)
        except ValueError as error:
            raise CheckpointError(f"{name}.weight: {error}") from None
        weights.spool(f"{name}.weight", made)


__all__ = ["PRUNED", "prune_layer"]

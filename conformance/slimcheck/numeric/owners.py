"""Whose weight it is, where it is not that of its name: layers and shards that changed places."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context, join
from slimcheck.numeric.floats import FloatModel
from slimcheck.numeric.measure import cosine_of
from slimcheck.numeric.records import Comparison, Outcome
from slimspec import schemes
from slimspec.checkpoint import CheckpointError
from slimspec.numeric import as_float32

STRANGE = 0.25  # cosine below which two weights have nothing in common
_OWN = 0.9  # and above which they are the same one
_ROWS = 16  # that are compared with every other weight
_MOST = 4096  # weights that are looked at


def cosine(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Of the angle between two tensors of one shape."""
    with np.errstate(all="ignore"):
        a, b = (as_float32(t).astype(np.float64).reshape(-1) for t in (x, y))
        return cosine_of(float(a @ b), float(a @ a), float(b @ b))


class Owners:
    """Finds the float tensor that a strange one was made from."""

    def __init__(self, context: Context, model: FloatModel) -> None:
        self._context = context
        self._model = model
        self._by_shape: dict[tuple[int, ...], list[str]] = defaultdict(list)
        table = model.checkpoint.table
        for row, name in table.firsts():
            self._by_shape[table.shape(row)].append(name)

    def claim(self, row: Comparison) -> Comparison:
        """DIFFERS, with the name of the owner, for a row that holds the weight of another."""
        unexplained = row.outcome is Outcome.NOT_JUDGED or (
            row.outcome is Outcome.DIFFERS and not row.changes
        )
        if not unexplained or row.cosine is None or abs(row.cosine) > STRANGE:
            return row
        own = f"{row.name}.weight" if f"{row.name}.weight" in self._model else row.name
        values = self._values(row)
        if values is None or self._model.tensor(own) is None:
            return row
        shape = self._model.tensor(own).shape  # type: ignore[union-attr]
        for other in self._by_shape[shape][:_MOST]:
            there = self._model.tensor(other)
            if other != own and there is not None and cosine(values, there[:_ROWS]) > _OWN:
                return replace(row, outcome=Outcome.DIFFERS, note=f"it is {other}")
        return row

    def _values(self, row: Comparison) -> NDArray[Any] | None:
        """The first rows as they are used."""
        checkpoint, name = self._context.checkpoint, row.name
        try:
            if name in checkpoint.table:
                return checkpoint.tensor(name)[:_ROWS]
            suffixes = [
                other.rpartition(".")[2]
                for other in checkpoint.table.names
                if other.rpartition(".")[0] == name
            ]
            tensors = {suffix: checkpoint.tensor(join(name, suffix)) for suffix in suffixes}
            scheme = schemes.get(row.label)
            record = scheme.from_tensors(tensors, self._context.profile, name)
            with np.errstate(all="ignore"):
                return scheme.dequantize(record)[:_ROWS]
        except (CheckpointError, ValueError, KeyError):
            return None

"""Transforms that leave a trace: smoothing factors in a norm or a neighbour, stored rotations.

    smoothing   w'_ij = a_i · w_ij · b_j    b_j = norm_j / norm'_j of the norm in front, and
                                            1 / a of the linear in front
    rotation    w' = (w · norm) R  or  Rᵀ w  with the rotation that the directory stores
A transform counts only if the quantized weight is within half a step of it, and its factors are
those of another tensor. Source: math.md 10, 11.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context, join
from slimcheck.layouts import is_norm
from slimcheck.numeric.floats import FloatModel
from slimcheck.numeric.measure import ROUNDING, distance
from slimcheck.numeric.numerics import Stored
from slimcheck.numeric.sample import layer_of
from slimspec import schemes
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.numeric import as_float32, to_dtype

Vector = NDArray[np.float64]
Floats = NDArray[np.float32]
_ROUNDS = 12
_LARGEST = 1 << 26  # elements of a weight that is fitted
_UNDONE = 0.95  # of the columns behind have to undo the factors of the rows
_SPREAD = 0.01  # factors that differ less are none
_VAGUE = 0.02  # relative error of factors that would explain anything
_FEW = 8  # elements that damage changes a little where nothing was smoothed
_STRAY = 1e-3  # of the codes may miss where factors were estimated


@dataclass(frozen=True, slots=True)
class Explained:
    """A verified transform, and the distance of the codes from the transformed weight."""

    name: str
    sqnr: float | None
    worst: float
    slack: float


@dataclass(frozen=True, slots=True)
class _Fit:
    rows: Vector  # a
    columns: Vector  # b
    error: float  # largest likely relative error of an a


class Transforms:
    """Looks for what explains a weight."""

    def __init__(self, context: Context, model: FloatModel) -> None:
        self._ck = context.checkpoint
        self._context = context
        self._model = model

    def explain(self, stored: Stored, name: str, weight: NDArray[Any]) -> Explained | None:
        """Return the transform after which the stored codes are nearest, verified elsewhere."""
        if weight.size > _LARGEST:
            return None
        w = as_float32(weight)
        with np.errstate(all="ignore"):
            return self._rotated(stored, name, w) or self._smoothed(stored, name, w)

    def smoothed_copy(self, name: str, stored: NDArray[Any], weight: NDArray[Any]) -> str:
        """The smoothing that a linear that stayed FLOAT follows with all its columns, "" if none.

        Of a smoothing that masks outliers few columns change, so most elements are copies. Where
        none changes, a few elements beside their copies are damage.
        """
        if weight.ndim != 2 or weight.size > _LARGEST:
            return ""
        found, w = as_float32(stored), as_float32(weight)
        unit = ROUNDING[stored.dtype.name]
        with np.errstate(all="ignore"):
            few = np.count_nonzero(found != as_float32(to_dtype(w, stored.dtype))) <= _FEW
            for other, inverse, error in self._inverses(name, w.shape[1]):
                if few and (np.abs(inverse - 1) <= 4 * unit + error).all():
                    continue
                moved = w * _quotient(np.ones_like(inverse), inverse).astype(np.float32)
                if (np.abs(found - moved) <= (4 * unit + error) * np.abs(moved)).all():
                    return f"smoothing by {other}"
        return ""

    def _smoothed(self, stored: Stored, name: str, w: Floats) -> Explained | None:
        back = stored.scheme.dequantize(stored.record)
        unit = ROUNDING[stored.dtype.name]
        for other, inverse, error in self._inverses(name, w.shape[1]):
            columns = _quotient(np.ones_like(inverse), np.abs(inverse)) * np.sign(inverse)
            if np.ptp(columns) < _SPREAD * np.abs(columns).max(initial=0):
                continue
            for with_rows in (False, True):
                scaled = w * columns.astype(np.float32)
                rows, row_error = np.ones(len(w)), 0.0
                if with_rows:
                    rows, row_error = _row_factors(back, scaled)
                if row_error > _VAGUE:
                    continue
                moved = (rows[:, None] * scaled).astype(np.float32)
                allowed = 2 * unit + error + row_error
                apart = distance(stored, moved, extra=allowed)
                if apart.outside <= apart.elements * (_STRAY if error else 0):
                    what = f"smoothing by {other}" + (", rows scaled" if with_rows else "")
                    return Explained(what, apart.sqnr, apart.worst, apart.slack)
        return self._rows_only(stored, name, back, w)

    def _rows_only(self, stored: Stored, name: str, back: Floats, w: Floats) -> Explained | None:
        """Rows scaled for the linear behind, whose columns have to undo it."""
        rows, error = _row_factors(back, w)
        middle = float(np.median(rows))
        if error > _VAGUE or not middle or np.mean(np.abs(rows / middle - 1) > _SPREAD) < 0.5:
            return None
        extra = 2 * ROUNDING[stored.dtype.name] + error
        apart = distance(stored, (rows[:, None] * w).astype(np.float32), extra=extra)
        if apart.outside:
            return None
        for module, there in self._linears(name):
            fit = self._fitted(module, there) if there.shape[1] % rows.size == 0 else None
            if fit is None or fit.error > _VAGUE:
                continue
            product = fit.columns * self._repeated(rows, fit.columns.size)
            close = np.abs(product / np.median(product) - 1) <= _SPREAD + fit.error + error
            if np.mean(close) >= _UNDONE:
                what = f"rows scaled for {module}"
                return Explained(what, apart.sqnr, apart.worst, apart.slack)
        return None

    def _linears(self, name: str) -> Iterator[tuple[str, NDArray[Any]]]:
        """The other linears of the layer, with their float weights."""
        layer = layer_of(name)
        for other in self._ck.table.names:
            module, _, suffix = other.rpartition(".")
            if suffix != "weight" or module == name or layer_of(module) != layer:
                continue
            there = self._model.tensor(other)
            if there is not None and there.ndim == 2 and there.size:
                yield module, there

    def _inverses(self, name: str, k: int) -> Iterator[tuple[str, Vector, float]]:
        """(tensor, its own factor, error of that) of what gives the layer's linear its k inputs."""
        layer = layer_of(name)
        linears = []
        for row, other in self._ck.table.firsts():
            module, _, suffix = other.rpartition(".")
            if suffix != "weight" or layer_of(module) != layer or module == name:
                continue
            there = self._model.tensor(other)
            if there is None:
                continue
            if is_norm(module) and self._ck.table.shape(row) == (k,) == there.shape:
                stored = as_float32(self._ck.tensor(other)).astype(np.float64)
                yield other, _quotient(stored, as_float32(there).astype(np.float64)), 0.0
            elif there.ndim == 2 and there.shape[0] * 16 >= k and k % there.shape[0] == 0:
                linears.append((module, there))
        for module, there in linears:
            fit = self._fitted(module, there)
            if fit is not None and fit.error <= _VAGUE:
                yield f"the rows of {module}", self._repeated(fit.rows, k), fit.error

    def _fitted(self, module: str, there: NDArray[Any]) -> "_Fit | None":
        """How rows and columns of another linear were scaled."""
        cls = self._context.class_of[module]
        label = self._context.labels.get(f"{module}.weight")
        if label is None or there.size > _LARGEST or id(cls) in self._context.contradictions:
            return None
        try:
            scheme = schemes.get(label)
            tensors = {suffix: self._ck.tensor(join(module, suffix)) for suffix in cls.tensors}
            back = scheme.dequantize(scheme.from_tensors(tensors, self._context.profile, module))
        except (ValueError, KeyError, CheckpointError):
            return None
        return _fit(back, as_float32(there)) if back.shape == there.shape else None

    def _repeated(self, factors: Vector, k: int) -> Vector:
        """Row factors of a value projection, once for every query head that reads it."""
        times = k // factors.size
        if times == 1:
            return factors
        config = self._context.root.config or self._model.checkpoint.config
        heads = config.get("num_key_value_heads") if config else None
        if type(heads) is not int or heads < 1 or factors.size % heads:
            return np.repeat(factors, times)
        by_head = factors.reshape(heads, -1)
        return np.repeat(by_head, times, axis=0).reshape(-1)

    def _rotated(self, stored: Stored, name: str, w: Floats) -> Explained | None:
        rotation = self._rotation
        if rotation is None:
            return None
        size, layer = rotation.shape[0], layer_of(name)
        tries: list[tuple[str, NDArray[Any]]] = []
        if w.shape[1] == size:
            tries.append(("w R", w @ rotation))
            for other in self._norms(layer, size):
                norm = as_float32(self._model.tensor(other))  # type: ignore[arg-type]
                tries.append((f"(w · {other.rpartition('.')[0].rpartition('.')[2]}) R",
                              (w * norm) @ rotation))  # fmt: skip
        if w.shape[0] == size:
            tries.append(("Rᵀ w", rotation.T @ w))
        for what, moved in tries:
            apart = distance(stored, moved, extra=4 * ROUNDING[stored.dtype.name])
            if apart.outside <= apart.elements * _STRAY:
                return Explained(f"rotation {what}", apart.sqnr, apart.worst, apart.slack)
        return None

    def _norms(self, layer: str, size: int) -> Iterator[str]:
        for other in self._model.checkpoint.table.names:
            module = other.rpartition(".")[0]
            same = layer_of(module) == layer or layer_of(module) == module
            if other.endswith(".weight") and is_norm(module) and same:
                there = self._model.tensor(other)
                if there is not None and there.shape == (size,):
                    yield other

    @cached_property
    def _rotation(self) -> Floats | None:
        """The global rotation that the directory stores."""
        folder = self._ck.path / "optional"
        if not folder.is_dir():
            return None
        held = open_checkpoint(folder)
        for row, name in held.table.firsts():
            shape = held.table.shape(row)
            if len(shape) == 2 and shape[0] == shape[1] and held.table.dtype(row) in ROTATION_TYPES:
                return as_float32(held.tensor(name))
        return None


ROTATION_TYPES = ("F16", "BF16", "F32")


def _row_factors(back: Floats, w: Floats) -> tuple[Vector, float]:
    """Least squares of back ≈ a_i · w_ij, and the largest likely relative error of an a."""
    x, y = w.astype(np.float64), back.astype(np.float64)
    rows = _quotient((x * y).sum(axis=1), np.square(x).sum(axis=1))
    return rows, _error(x, y, rows)


def _error(x: Vector, y: Vector, rows: Vector) -> float:
    """Six standard errors of the least certain of most factors."""
    residual = np.square(y - rows[:, None] * x).sum(axis=1)
    spread = np.square(rows[:, None] * x).sum(axis=1) * max(x.shape[1] - 1, 1)
    return 6 * float(np.quantile(np.sqrt(_quotient(residual, spread)), 0.95))


def _fit(back: Floats, w: Floats) -> _Fit | None:
    """Least squares of back ≈ a_i · w_ij · b_j, the median of a being 1."""
    x, y = w.astype(np.float64), back.astype(np.float64)
    rows, columns = np.ones(x.shape[0]), np.ones(x.shape[1])
    for _ in range(_ROUNDS):
        left = x * rows[:, None]
        columns = _quotient((left * y).sum(axis=0), np.square(left).sum(axis=0))
        right = x * columns
        rows = _quotient((right * y).sum(axis=1), np.square(right).sum(axis=1))
        middle = float(np.median(np.abs(rows)))
        if not middle > 0 or not np.isfinite(middle):
            return None
        rows, columns = rows / middle, columns * middle
    if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
        return None
    return _Fit(rows, columns, _error(x * columns, y, rows))


def _quotient(x: Vector, y: Vector) -> Vector:
    return np.divide(x, y, out=np.ones_like(x), where=y > 0)

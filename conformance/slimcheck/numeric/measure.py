"""Numbers of a comparison: equal elements, distance from the nearest code, signal to noise.

Everything is done in blocks of rows, so that a large linear needs little memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.numeric.numerics import Numerics, Stored
from slimcheck.numeric.records import Change
from slimspec.numeric import as_float32, to_dtype
from slimspec.quantize.affine import code_range, group_view
from slimspec.schemes import Linear, QuantizedLinear

_ELEMENTS = 1 << 23  # of a block of rows
# relative error of one rounding; the slack that the producer's arithmetic may need (math.md 1.8)
ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-9}
_BY_COLUMN = frozenset({"svd_lowrank_l1", "left_trans", "right_trans"})
_GIVEN = frozenset({"label", "name", "input_scale", "input_offset", "clip_ratio"})


def row_blocks(shape: tuple[int, ...], whole: bool = False) -> Iterator[slice]:
    """Cut rows into blocks of an even number of rows; one block if `whole`."""
    n, k = shape
    step = n if whole else max(2 * (_ELEMENTS // max(2 * k, 1)), 2)
    yield from (slice(at, min(at + step, n)) for at in range(0, n, max(step, 1)))


def rows_of(record: QuantizedLinear, rows: slice) -> QuantizedLinear:
    """The record of some rows: what has a row for each is cut, the rest is kept."""
    n = record.weight.shape[0]
    cut: dict[str, Any] = {}
    for item in fields(record):
        value = getattr(record, item.name)
        if isinstance(value, np.ndarray) and item.name not in _BY_COLUMN and n > 1:
            cut[item.name] = value[rows] if value.ndim and value.shape[0] == n else value
    return replace(record, **cut)


@dataclass
class Agreement:
    """How far a record made by some numerics is what is stored, tensor by tensor."""

    numerics: str
    own: bool  # the producer's
    equal: dict[str, int]
    total: dict[str, int]
    changes: dict[str, Change]
    exact_rows: int = 0
    rows: int = 0

    @property
    def exact(self) -> bool:
        return self.equal == self.total

    @property
    def share(self) -> float:
        """Share of equal weight codes."""
        return self.equal.get("weight", 0) / max(self.total.get("weight", 0), 1)


def agreement(
    stored: Stored, weight: NDArray[Any], numerics: Numerics, own: bool, name: str
) -> Agreement:
    """Make the linear by the numerics and compare. Raises: ValueError if they do not apply."""
    found = Agreement(numerics.name, own, {}, {}, {})
    for rows in row_blocks(stored.record.weight.shape, whole=not numerics.by_rows):
        there = rows_of(stored.record, rows)
        cast = to_dtype(np.ascontiguousarray(weight[rows]), numerics.dtype)
        bias = there.bias if there.bias is None else _as_model(there.bias, numerics.dtype)
        made = numerics.make(Linear(cast, bias, name))
        _add(found, made, there, rows.start)
    return found


def _as_model(bias: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The bias in the dtype of the model, where it was only widened when it was saved."""
    narrow = to_dtype(as_float32(bias), dtype)
    return narrow if np.array_equal(as_float32(narrow), as_float32(bias)) else bias


def _add(found: Agreement, made: QuantizedLinear, there: QuantizedLinear, first_row: int) -> None:
    for item in fields(there):
        a, b = getattr(made, item.name), getattr(there, item.name)
        if item.name in _GIVEN or not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
            continue
        if a.shape != b.shape:
            raise ValueError(f"{item.name}: {a.shape} instead of {b.shape}")
        same = _same(a, b)
        if item.name == "weight":
            by_row = same.reshape(same.shape[0], -1).all(axis=1)
            found.exact_rows += int(np.count_nonzero(by_row))
            found.rows += by_row.size
        count = int(np.count_nonzero(same))
        found.equal[item.name] = found.equal.get(item.name, 0) + count
        found.total[item.name] = found.total.get(item.name, 0) + same.size
        if count < same.size:
            _note_change(found, item.name, a, b, ~same, first_row)


def _same(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    if a.dtype == b.dtype and a.dtype.kind in "iu":
        return np.asarray(a == b)
    if a.dtype.kind in "iu" or b.dtype.kind in "iu":
        return np.asarray(a.astype(np.float64) == b.astype(np.float64))
    x, y = a.astype(np.float32), b.astype(np.float32)
    with np.errstate(invalid="ignore"):
        return np.asarray((x == y) | (np.isnan(x) & np.isnan(y)))


def _note_change(
    found: Agreement, suffix: str, made: Any, there: Any, wrong: NDArray[np.bool_], first_row: int
) -> None:
    old = found.changes.get(suffix)
    if old is not None:
        found.changes[suffix] = replace(old, count=old.count + int(np.count_nonzero(wrong)))
        return
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    place = tuple(int(i) + (first_row if axis == 0 else 0) for axis, i in enumerate(at))
    found.changes[suffix] = Change(
        suffix, int(np.count_nonzero(wrong)), 0, place, float(there[at]), float(made[at])
    )


@dataclass
class Distance:
    """How far the codes are from the nearest ones, in steps, and what noise the weight has."""

    worst: float = 0.0
    slack: float = 0.0
    outside: int = 0  # elements beyond half a step and slack
    clipped: int = 0
    elements: int = 0
    first: tuple[int, ...] = ()
    signal: float = 0.0
    noise: float = 0.0
    common: float = 0.0  # Σ w ŵ
    power: float = 0.0  # Σ ŵ²

    @property
    def cosine(self) -> float:
        """Σ w ŵ / √(Σ w² Σ ŵ²); 0 where one of them is zero or not finite."""
        return cosine_of(self.common, self.signal, self.power)

    @property
    def sqnr(self) -> float | None:
        """10 log10(Σw² / Σ(w - ŵ)²) dB."""
        if self.noise == 0:
            return float("inf") if self.signal else None
        with np.errstate(all="ignore"):
            return float(10 * np.log10(self.signal / self.noise)) if self.signal else None


def cosine_of(common: float, one: float, other: float) -> float:
    """Cosine from Σ x y, Σ x², Σ y²."""
    product = one * other
    return common / product**0.5 if product > 0 and np.isfinite(product) else 0.0


def distance(stored: Stored, weight: NDArray[Any], extra: float = 0.0) -> Distance:
    """Compare the dequantized weight with a float one [n, k].

    For evenly spaced codes the distance of w / s + z, clipped to the range of the codes, from q;
    half a step plus slack is the most that rounding explains. The slack is the error of the
    quotient in the producer's dtype, one rounding of w / s and one of the sum, at most
    u (|q - z| + |q| + 1); where the scale itself is deq_scale / input_scale, three roundings more.

    Args: extra: relative error of `weight` itself, where it was estimated.
    """
    found = Distance()
    unit = ROUNDING[stored.dtype.name]
    derived = stored.record.weight_scale is None
    for rows in row_blocks(stored.record.weight.shape):
        there = rows_of(stored.record, rows)
        w = np.asarray(weight[rows]).astype(np.float32)
        with np.errstate(all="ignore"):
            back = stored.scheme.dequantize(there)
            found.signal += float(np.square(w, dtype=np.float64).sum())
            found.noise += float(np.square(w - back, dtype=np.float64).sum())
            found.common += float(np.multiply(w, back, dtype=np.float64).sum())
            found.power += float(np.square(back, dtype=np.float64).sum())
            found.elements += w.size
            if stored.affine and not stored.parts:
                _steps(found, stored, there, w, unit, derived, extra, rows.start)
    return found


def _steps(
    found: Distance,
    stored: Stored,
    there: QuantizedLinear,
    w: NDArray[np.float32],
    unit: float,
    derived: bool,
    extra: float,
    first_row: int,
) -> None:
    step, offset, codes = _grid(stored, there)
    groups = group_view(w, w.shape[1] // step.shape[1])  # (n, k // g, g)
    with np.errstate(all="ignore"):
        aim = groups / step[..., None] + offset[..., None]
    low, high = _range(stored)
    near = np.clip(np.nan_to_num(aim, nan=0.0), low, high)
    off = np.abs(near - codes)
    size = np.abs(codes - offset[..., None]) + np.abs(codes) + 1
    slack = size * np.float32(unit * (4 if derived else 1) + extra)
    wrong = off > np.float32(0.5) + slack
    if not found.outside and wrong.any():
        row, group, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        found.first = (int(row) + first_row, int(group) * groups.shape[2] + int(column))
    found.outside += int(np.count_nonzero(wrong))
    found.clipped += int(np.count_nonzero((aim > high + 0.5) | (aim < low - 0.5)))
    found.worst = max(found.worst, float(off.max(initial=0)))
    found.slack = max(found.slack, float(slack.max(initial=0)))


def _range(stored: Stored) -> tuple[int, int]:
    if stored.record.weight_scale_second is not None:
        return -128, 127
    return code_range(stored.scheme.bits)


def _grid(
    stored: Stored, there: QuantizedLinear
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Step and offset [n, k/g], and codes float32 [n, k/g, g] at that step.

    On two levels the step is that of a code, scale · second.
    """
    codes, scale = there.weight, there.weight_scale
    n = codes.shape[0]
    if scale is None:
        given, deq = as_float32(there.need("input_scale")), there.need("deq_scale")
        scale = (as_float32(deq) / given).reshape(-1, 1)
    step = np.broadcast_to(as_float32(scale).reshape(-1, scale.shape[-1]), (n, scale.shape[-1]))
    if there.weight_scale_second is not None:
        second = as_float32(there.weight_scale_second)
        step = step * second
    offset = there.weight_offset
    zero = np.zeros((1, 1), np.float32) if offset is None else as_float32(offset)
    zeros = np.broadcast_to(zero.reshape(-1, zero.shape[-1]), (n, zero.shape[-1]))
    zeros = np.broadcast_to(zeros, step.shape)
    groups = group_view(codes, codes.shape[1] // step.shape[1])
    return step, zeros, groups.astype(np.float32)

"""Whether the tensors of one linear are those of its type, before reading and after making them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from slimspec import layout
from slimspec.checkpoint import Checkpoint, CheckpointError
from slimspec.checkpoint.dtypes import tag_of
from slimspec.checkpoint.errors import clip
from slimspec.layout import TensorRule
from slimspec.layout.beside import guests
from slimspec.numeric import as_float32
from slimspec.numeric.arithmetic import MODEL_DTYPES
from slimspec.numeric.deq_word import decode_deq_scale
from slimspec.schemes import QuantizedLinear, Scheme

Found = Mapping[str, tuple[str | None, tuple[int, ...]]]  # suffix -> dtype tag, shape


def check_stored(
    checkpoint: Checkpoint, module: str, suffixes: list[str], label: str, profile: str
) -> None:
    """Refuse a linear whose stored tensors are not those of its label.

    Args: suffixes: of all tensors of the module.
    Raises: CheckpointError naming file and tensor; LayoutError for an unknown label.
    """
    rules, beside = layout.rules(label, profile), guests(profile)
    table = checkpoint.table
    own = [s for s in suffixes if s in rules or s not in beside]
    rows = {s: table.row(table.index(f"{module}.{s}")) for s in own}
    problem = _problem(rules, {s: (row.dtype, row.shape) for s, row in rows.items()})
    if problem is not None:
        suffix, found, expected = problem
        where = f"{clip(rows[suffix].file)}: tensor '{clip(rows[suffix].name, 120)}'"
        raise CheckpointError(f"{where}: found {found}; expected {expected} for {label}")


def check_made(
    scheme: Scheme, q: QuantizedLinear, rules: Mapping[str, TensorRule], made: dict[str, NDArray]
) -> None:
    """Refuse tensors that no engine can use.

    Raises: ValueError naming the tensor, what it is and what it should be.
    """
    problem = _problem(rules, {s: (tag_of(a.dtype), a.shape) for s, a in made.items()})
    if problem is not None:
        suffix, found, expected = problem
        raise ValueError(f"{q.name}.{suffix}: found {found}; expected {expected} for {q.label}")
    rows = q.weight.shape[0]
    if rows % scheme.row_multiple:
        raise ValueError(
            f"{q.name}.weight: found {rows} rows; expected a multiple of {scheme.row_multiple} "
            f"for {q.label}"
        )
    for suffix, array in made.items():
        limit = rules[suffix].values.min_exclusive
        if limit is not None:
            _check_scale(q, suffix, array, limit)


def _check_scale(q: QuantizedLinear, suffix: str, stored: NDArray, limit: float) -> None:
    """A scale is finite and above the limit; one that scales only zeros may be 0."""
    if suffix == "deq_scale" and stored.dtype == np.int64:
        stored = decode_deq_scale(stored)
    if stored.dtype not in MODEL_DTYPES:
        return  # E8M0 bytes and the like are powers of two
    scale = as_float32(stored)
    wrong = ~(np.isfinite(scale) & (scale > limit))
    if wrong.any():
        wrong &= ~((scale == 0) & _idle(q.weight, scale.shape))
    if wrong.any():
        at = np.unravel_index(int(wrong.argmax()), scale.shape)
        where = [int(i) for i in at]
        raise ValueError(
            f"{q.name}.{suffix}: found {float(scale[at])!r} at {where}, {int(wrong.sum())} such "
            f"elements; expected finite numbers above {limit:g}"
        )


def _idle(codes: NDArray, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which scales of that shape [n], [n, 1], [n, k/g] or [1] scale zeros only."""
    n, k = codes.shape
    if len(shape) == 2 and shape[0] == n and shape[1] and k % shape[1] == 0:
        return np.asarray(~codes.reshape(n, shape[1], -1).any(axis=2))
    still = np.asarray(~codes.any(axis=1))
    return still.reshape(shape) if shape == (n,) else np.full(shape, bool(still.all()))


def _problem(rules: Mapping[str, TensorRule], found: Found) -> tuple[str, str, str] | None:
    """Return suffix, found, expected of the first tensor that the rules do not allow."""
    for suffix, (dtype, shape) in found.items():
        rule = rules.get(suffix)
        if rule is None or rule.presence == "forbidden":
            return suffix, f"{dtype} {list(shape)}", "no such tensor"
        allowed = rule.resolve_dtypes()
        if dtype not in allowed:
            return suffix, f"dtype {dtype}", " or ".join(sorted(allowed))
        if suffix == "weight" and 0 in shape:
            return suffix, f"shape {list(shape)}", "rows and columns"
    for problem in layout.bind(rules, {s: shape for s, (_, shape) in found.items()}).problems:
        return problem.suffix, f"shape {list(problem.found)}", problem.expected
    return None

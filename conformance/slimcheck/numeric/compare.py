"""Compare every chosen linear and float tensor of a checkpoint with the float model."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context
from slimcheck.numeric.floats import FloatModel
from slimcheck.numeric.measure import Agreement, Distance, agreement, distance
from slimcheck.numeric.numerics import Stored, all_numerics, stored_linear
from slimcheck.numeric.owners import STRANGE, Owners, cosine
from slimcheck.numeric.records import Change, Comparison, Outcome
from slimcheck.numeric.sample import choose, parse
from slimcheck.numeric.transforms import Transforms
from slimcheck.values.modules import Module
from slimcheck.values.scan import processors
from slimspec import layout, schemes
from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.dtypes import numpy_dtype
from slimspec.numeric import as_float32, to_dtype

_FLOATS = ("F16", "BF16", "F32")
_ISOLATED = 0.9  # equal codes, or a quarter of all rows: what differs was changed afterwards
_ROWS = 0.25
_SOME, _PARALLEL = 64, 0.9  # changed rows that are looked at; cosine of scaled ones
_FLIPS = 8  # codes that damage may leave within a step of where they were
_STRICT = 0.99  # of elements at uneven steps, whose methods differ in few
_LARGE = 64 << 20  # bytes of a linear that is compared alone, for the memory it takes
_SPARSE = ("W8A8S", "W16A16S", "W8A8SC", "W16A16SC")
Array = NDArray[Any]


def compare(
    context: Context,
    model: FloatModel,
    chosen: Sequence[Module],
    sample: str = "all",
    threads: int = 0,
) -> list[Comparison]:
    """Return one comparison per chosen quantized linear, and per FLOAT tensor if all are chosen.

    Args:
        chosen: the modules, in file order.
        threads: 0 takes one per processor, and one alone where a weight is large.
    Raises: slimcheck.numeric.sample.SampleError.
    """
    quantized = {module.name for module in chosen if _is_quantized(context, module)}
    names = set(choose(quantized, sample))
    every = parse(sample) == (None, None)
    work = [
        module
        for module in chosen
        if module.name in names or (every and module.name not in quantized)
    ]
    transforms = Transforms(context, model)
    largest = max((module.nbytes for module in work), default=0)
    threads = 1 if largest > _LARGE else threads or processors()
    with ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(lambda module: _of_module(context, model, transforms, module), work))
    owners = Owners(context, model)
    return [owners.claim(row) for row in settle(row for rows in made for row in rows)]


def _is_quantized(context: Context, module: Module) -> bool:
    label = module.label
    return label is not None and layout.base_label(label, context.profile) != "FLOAT"


def _of_module(
    context: Context, model: FloatModel, transforms: Transforms, module: Module
) -> list[Comparison]:
    label = module.label
    try:
        if label is None or not _is_quantized(context, module):
            return list(_floats(context, model, transforms, module))
        with np.errstate(all="ignore"):  # damaged numbers, and codes of them
            linear = _linear(context, model, transforms, module, label)
            return [linear, *_floats(context, model, transforms, module)]
    except CheckpointError as error:
        return [Comparison(module.name, label or "", Outcome.NOT_JUDGED, note=str(error))]


def _floats(
    context: Context, model: FloatModel, transforms: Transforms, module: Module
) -> Iterator[Comparison]:
    """FLOAT tensors are copies, in the dtype of the checkpoint, unless something was folded in."""
    for suffix, spec in module.cls.tensors.items():
        name = module.tensor(suffix)
        there = model.tensor(name) if spec.dtype in _FLOATS else None
        if spec.label is None or layout.base_label(spec.label) != "FLOAT" or there is None:
            continue
        stored = module.array(suffix)
        if there.shape != stored.shape:
            note = f"shape {list(stored.shape)}, the float model has {list(there.shape)}"
            yield Comparison(name, spec.label, Outcome.NOT_JUDGED, note=note)
            continue
        cast = to_dtype(there, stored.dtype)
        width = f"u{stored.dtype.itemsize}"
        same = np.asarray(cast).view(width) == stored.view(width)
        row = _float_row(name, spec.label, same, stored, np.asarray(cast))
        if row.outcome is Outcome.DIFFERS and suffix == "weight":
            smoothed = transforms.smoothed_copy(module.name, stored, there)
            if smoothed:
                row = replace(row, outcome=Outcome.TRANSFORMED, numerics=smoothed, changes=())
        yield row


def _float_row(
    name: str, label: str, same: NDArray[np.bool_], stored: Array, cast: Array
) -> Comparison:
    if same.all():
        return Comparison(name, label, Outcome.EXACT, equal=1.0, sqnr=float("inf"))
    share = float(np.count_nonzero(same)) / same.size
    rows = same.ndim == 2 and _spared_rows(same, stored, cast)
    if share < _ISOLATED and not rows and same.size - np.count_nonzero(same) > 1:
        note = "other numbers than the float model: folded, smoothed, rotated or trained"
        angle = cosine(stored, cast)
        return Comparison(name, label, Outcome.NOT_JUDGED, equal=share, cosine=angle, note=note)
    at = np.unravel_index(int(np.argmin(same)), same.shape)
    place = tuple(int(i) for i in at)
    change = Change(
        name.rpartition(".")[2], int(np.count_nonzero(~same)), same.size, place,
        float(stored[at]), float(cast[at]),
    )  # fmt: skip
    return Comparison(name, label, Outcome.DIFFERS, equal=share, changes=(change,))


def _spared_rows(same: NDArray[np.bool_], stored: Array, cast: Array) -> bool:
    """Whether many rows are copies, and the others are no multiples of theirs."""
    whole = same.all(axis=1)
    if np.mean(whole) < _ROWS:
        return False
    angles = [abs(cosine(stored[row], cast[row])) for row in np.flatnonzero(~whole)[:_SOME]]
    return float(np.median(angles)) < _PARALLEL


def _linear(
    context: Context, model: FloatModel, transforms: Transforms, module: Module, label: str
) -> Comparison:
    def unjudged(note: str) -> Comparison:
        return Comparison(module.name, label, Outcome.NOT_JUDGED, note=note)

    if id(module.cls) in context.contradictions:
        return unjudged(context.contradictions[id(module.cls)])
    shards = sum(
        other.startswith(module.name.rpartition(".")[0] + ".") for other in module.cls.members
    )
    weight = model.weight(module.name, shards)
    if weight is None:
        return unjudged(f"the float model has no {module.name}.weight")
    if weight.ndim != 2 or not weight.size:
        return unjudged(f"the float weight has shape {list(weight.shape)}")
    if not np.isfinite(as_float32(weight)).all():
        return unjudged("the float weight is not finite")
    dtype = numpy_dtype(context.model_dtype or "") or weight.dtype
    try:
        tensors = {suffix: module.array(suffix) for suffix in module.cls.tensors}
        stored = stored_linear(schemes.get(label), tensors, context.profile, module.name, dtype)
    except (ValueError, KeyError, IndexError) as error:
        return unjudged(str(error))
    if stored.record.weight.shape != weight.shape:
        shape = list(stored.record.weight.shape)
        return unjudged(f"codes {shape}, the float weight is {list(weight.shape)}")
    return _judged(context, transforms, stored, module, label, weight)


def _judged(
    context: Context,
    transforms: Transforms,
    stored: Stored,
    module: Module,
    label: str,
    weight: Array,
) -> Comparison:
    row = Comparison(module.name, label, Outcome.NOT_JUDGED)
    base = layout.base_label(label, context.profile) or label
    if base in _SPARSE:
        return _sparse(stored, weight, row, base)
    best = _best(stored, weight, module.name)
    apart = distance(stored, weight)
    row = replace(
        row, equal=best.share if best else None, sqnr=apart.sqnr,
        cosine=None if stored.parts else apart.cosine,
    )  # fmt: skip
    if stored.affine and not stored.parts:
        row = replace(
            row, worst=apart.worst, slack=apart.slack, clipped=apart.clipped / weight.size
        )
    if best is not None and best.exact:
        outcome = Outcome.EXACT if best.own else Outcome.EXACT_UNDER
        return replace(row, outcome=outcome, numerics=best.numerics)
    changes = _isolated(best, stored, apart) if best else ()
    judged = stored.affine and not stored.parts
    if judged and not apart.outside and not changes:
        return replace(row, outcome=Outcome.BOUND, numerics=_nearest(best))
    if judged and apart.outside:
        explained = transforms.explain(stored, module.name, weight)
        if explained is not None:
            return replace(
                row, outcome=Outcome.TRANSFORMED, numerics=explained.name, sqnr=explained.sqnr,
                worst=explained.worst, slack=explained.slack,
            )  # fmt: skip
    if best is not None and changes:
        return replace(row, outcome=Outcome.DIFFERS, numerics=best.numerics, changes=changes)
    return replace(row, note=_unexplained(stored, apart, best))


def _nearest(best: Agreement | None) -> str:
    return f"nearest: {best.numerics}" if best is not None and best.share >= _ISOLATED else ""


def _unexplained(stored: Stored, apart: Distance, best: Agreement | None) -> str:
    if stored.parts:
        text = "beside learned transforms whose training left no other trace"
    elif not stored.affine:
        text = "elements at uneven steps that follow no known method"
    else:
        share = apart.outside / max(apart.elements, 1)
        text = (
            f"{share:.1%} of the codes are not the nearest, by up to {apart.worst:.3g} steps; "
            "no verified transform explains it (a solver that compensates errors, a smoothing "
            "or rotation without a trace, or another float model)"
        )
    return text + (f"; nearest: {best.numerics}" if best and best.share >= 0.5 else "")


def _best(stored: Stored, weight: Array, name: str) -> Agreement | None:
    """The numerics that give the stored numbers, else those that give most of the codes."""
    best: Agreement | None = None
    for order, numerics in enumerate(all_numerics(stored)):
        try:
            with np.errstate(all="ignore"):
                found = agreement(stored, weight, numerics, order == 0, name)
        except (ValueError, TypeError, IndexError):
            continue
        if found.exact:
            return found
        if best is None or (found.share, -len(found.changes)) > (best.share, -len(best.changes)):
            best = found
        if order == 0 and _only_codes(found):
            break
    return best


def _only_codes(found: Agreement) -> bool:
    """Whether scales are as made, and most codes or many rows: no other numerics need be tried."""
    scales = all(
        found.total[suffix] - found.equal[suffix] <= 1
        for suffix in found.total
        if suffix not in ("weight", "quant_bias")
    )
    return scales and _mostly(found)


def _mostly(found: Agreement) -> bool:
    return found.share >= _ISOLATED or _rows_as_made(found)


def _rows_as_made(found: Agreement) -> bool:
    return found.rows > 1 and found.exact_rows >= max(_ROWS * found.rows, 1)


def _isolated(best: Agreement, stored: Stored, apart: Distance) -> tuple[Change, ...]:
    """What was changed in a linear that is otherwise exactly as some numerics make it.

    A code that is not the nearest under the stored scale, where most others and their scales, or
    whole rows, are as made; or a few numbers beside codes that are all as made. Everything else may
    be another solver, or a weight that was smoothed a little.
    """
    if stored.parts:
        return ()
    beside = {
        suffix: total - best.equal[suffix]
        for suffix, total in best.total.items()
        if suffix != "weight" and best.equal[suffix] < total
    }
    few = all(count <= max(1, best.total[suffix] // 100) for suffix, count in beside.items())
    if best.share < 1.0:
        least = _ISOLATED if stored.affine else _STRICT
        near = (best.share >= least and few) or (stored.affine and _rows_as_made(best))
        if not near or (stored.affine and (not apart.outside or _drifted(best, apart))):
            return ()
    elif not few and stored.affine and not apart.outside:
        return ()
    return tuple(replace(change, of=best.total[suffix]) for suffix, change in best.changes.items())


def _drifted(best: Agreement, apart: Distance) -> bool:
    """Whether many codes miss the nearest one, and none by a whole step: no damage is so even."""
    change = best.changes.get("weight")
    return change is not None and change.count > _FLIPS and apart.worst < 1


def _sparse(stored: Stored, weight: Array, row: Comparison, base: str) -> Comparison:
    """Pruning keeps some weights: the kept ones are copies in a float type."""
    apart = distance(replace(stored, parts={"sparse": np.empty(0)}), weight)
    row = replace(row, sqnr=apart.sqnr)
    if base != "W16A16S":
        return replace(row, note="a sparse type: its writer drops and clips weights by a solver")
    kept = stored.record.weight
    same = (as_float32(kept) == as_float32(to_dtype(weight, kept.dtype))) | (as_float32(kept) == 0)
    share = float(np.count_nonzero(same)) / same.size
    if share == 1.0:
        return replace(row, outcome=Outcome.EXACT_UNDER, numerics="pruned copy", equal=share)
    return replace(row, equal=share, note="kept weights differ too: pruned by a solver")


def settle(rows: Iterable[Comparison]) -> list[Comparison]:
    """Judge norms by the linears behind them, and what nothing explains by its peers.

    A norm whose change a linear undoes is TRANSFORMED. Linears of one name in other layers or
    experts follow the same recipe: where two in three are EXACT or BOUND and nothing was smoothed,
    one whose codes are not is no transform. (A search may smooth one layer and spare another.)
    Where most linears of all are so, nothing was rotated, and what points in another direction than
    its float tensor is none of its own.
    """
    rows = list(rows)
    named = [row.numerics for row in rows if row.outcome is Outcome.TRANSFORMED]
    leaf = {row.name: (row.label, row.name.rpartition(".")[2]) for row in rows}
    good = Counter(leaf[row.name] for row in rows if row.outcome in _AS_MADE)
    unexplained = Counter(leaf[row.name] for row in rows if _open(row))
    linears = [row for row in rows if not row.label.startswith("FLOAT") and row.sqnr is not None]
    plain = bool(linears) and 2 * sum(row.outcome in _AS_MADE for row in linears) >= len(linears)
    settled = []
    for row in rows:
        kind = leaf[row.name]
        changed = row.outcome in (Outcome.DIFFERS, Outcome.NOT_JUDGED) and row.worst is None
        if changed and any(row.name in text for text in named):
            row = replace(
                row, outcome=Outcome.TRANSFORMED, numerics="smoothing", changes=(), note=""
            )
        elif _open(row) and not named and good[kind] >= 2 * unexplained[kind]:
            note = f"{row.note}; its peers in other layers are as they should be"
            row = replace(row, outcome=Outcome.DIFFERS, note=note)
        elif plain and is_strange(row):
            note = f"points elsewhere (cosine {row.cosine:.2g}), most others are as they should be"
            row = replace(row, outcome=Outcome.DIFFERS, note=note)
        settled.append(row)
    return settled


def is_strange(row: Comparison) -> bool:
    """Whether nothing explains a tensor that points in another direction than its float one."""
    unjudged = row.outcome is Outcome.NOT_JUDGED and row.cosine is not None
    return unjudged and not abs(row.cosine or 0.0) > STRANGE


_AS_MADE = (Outcome.EXACT, Outcome.EXACT_UNDER, Outcome.BOUND)


def _open(row: Comparison) -> bool:
    return row.outcome is Outcome.NOT_JUDGED and row.worst is not None

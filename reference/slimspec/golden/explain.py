"""Say what somebody's outputs follow, over all vectors of an operation, and what a case shows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.golden.compare import compare, element_text
from slimspec.golden.vectors import VectorCase, flags

Outputs = Mapping[str, NDArray]


@dataclass
class Evidence:
    """How many elements each variant of an operation explains, summed over vectors."""

    op: str
    shares: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    names: dict[tuple[str, ...], str] = field(default_factory=dict)
    seen: int = 0

    def add(self, case: VectorCase, outputs: Outputs) -> bool:
        """Take in one vector and return True; False for one that asks for another than the
        normative form of its operation, or that the diagnosis cannot read."""
        found = _diagnosed(case, outputs)
        if found is None:
            return False
        self.seen += 1
        for match in found.matches:
            total = self.shares.setdefault(match.deviations, [0, 0, 0])
            total[0] += match.equal
            total[1] += match.total
            total[2] += 1
            self.names[match.deviations] = match.variant
        return True

    def ranked(self) -> list[tuple[str, float, tuple[str, ...]]]:
        """(variant, share, deviations), best first; fewer deviations first at a tie."""
        rows = [
            (self.names[key], equal / total if total else 1.0, key)
            for key, (equal, total, count) in self.shares.items()
            if count == self.seen
        ]
        return sorted(rows, key=lambda row: (-row[1], len(row[2])))

    def verdict(self) -> str | None:
        """One sentence, or None where nothing could be diagnosed."""
        ranked = self.ranked()
        if not ranked:
            return None
        best = ranked[0][1]
        least = len(ranked[0][2])
        alike = [n for n, share, key in ranked if share == best and len(key) == least]
        names = '" or "'.join(alike)
        canonical = next(share for _, share, key in ranked if not key)
        if best == 1.0:
            return f'all elements equal "{names}"; canonical explains {canonical:.4%}'
        return f'nearest is "{names}", {best:.4%} of the elements; canonical {canonical:.4%}'


def _diagnosed(case: VectorCase, outputs: Outputs) -> Any:
    from slimspec.attention.diagnosis import DEQUANTIZE_KV, QUANTIZE_KV
    from slimspec.checkpoint.dtypes import whole_dtype
    from slimspec.golden.mistakes import op_of
    from slimspec.golden.operations import operation
    from slimspec.matmul.diagnosis import OPS, diagnose
    from slimspec.matmul.diagnosis.engine import explain, variants

    op = operation(case.op)
    known = op_of(case)
    if known is not None:
        try:
            return explain(known, tuple(np.asarray(outputs[name]) for name in case.outputs), {})
        except ValueError:
            return None  # another shape
    if op.diagnosis is None or not normative(case):
        return None
    table = OPS | {QUANTIZE_KV.name: QUANTIZE_KV, DEQUANTIZE_KV.name: DEQUANTIZE_KV}
    given: dict[str, Any] = {
        op.keywords.get(name, name): array for name, array in case.inputs.items()
    }
    for name, value in case.attributes.items():
        if name in ("out_dtype", "dtype"):
            given[name] = whole_dtype(value)
        elif name not in _CHOICES:
            given[name] = value
    work = sum(a.size for a in case.inputs.values()) * sum(1 for _ in variants(table[op.diagnosis]))
    if work > _LARGEST:
        return None
    found = tuple(np.asarray(outputs[name]) for name in op.outputs)
    try:
        with np.errstate(all="ignore"):
            return diagnose(table[op.diagnosis], found if len(found) > 1 else found[0], **given)
    except (ValueError, TypeError, KeyError):
        return None  # another shape, or a form that no variant has


_CHOICES = frozenset({"form", "variant", "order", "rule", "steps", "round_mode"})
_NORMATIVE = {"div", "golden", "scale_first", "canonical"}
_LARGEST = 50_000_000  # elements times variants


def normative(case: VectorCase) -> bool:
    """Tell whether the case asks for the normative form of its operation."""
    if case.numerics != "canonical":
        return False
    if case.op == "quantize_kv":
        return case.attributes.get("form", "mul") == "mul"
    chosen = {str(v) for k, v in case.attributes.items() if k in _CHOICES}
    return chosen <= _NORMATIVE


def require(case: VectorCase, *outputs: Any) -> None:
    """Raise AssertionError unless the outputs pass; see `VectorCase.check`."""
    given = outputs[0] if len(outputs) == 1 else outputs
    if not isinstance(given, Mapping):
        several = given if isinstance(given, tuple) else (given,)
        given = dict(zip(case.outputs, several, strict=True))
    found = {name: np.asarray(value) for name, value in given.items()}
    wrong = compare(case.outputs, found, case.tolerance)
    if wrong:
        raise AssertionError("\n".join(describe(case, [d.text() for d in wrong], found)))


def describe(case: VectorCase, wrong: list[str], found: Outputs) -> list[str]:
    """Return the lines that report a failed case: what differs, what it follows, what breaks."""
    evidence = Evidence(case.op)
    if not any(text.endswith("no output") for text in wrong):
        evidence.add(case, found)
    verdict = evidence.verdict()
    notes = flags()
    return [
        f"{case.id}: {case.comment}",
        *(f"  {text}" for text in wrong),
        *([f"  diagnosis: {verdict}"] if verdict else []),
        *(f"  {flag}: {notes[flag]['breaks']}" for flag in case.flags),
    ]


def show(case: VectorCase, limit: int = 16) -> Iterable[str]:
    """Yield the lines that explain a case, tensors with their first elements."""
    from slimspec.golden.operations import operation

    yield f"{case.id}  ({case.op}: {operation(case.op).formula})"
    yield f"  {case.comment}"
    yield f"  origin {case.origin}, source {case.source}, numerics {case.numerics}"
    for name, value in case.attributes.items():
        yield f"  attribute {name} = {value}"
    parts = (("in", case.inputs), ("mid", case.intermediates), ("out", case.outputs))
    for short, tensors in parts:
        for name, array in tensors.items():
            yield f"  {short}/{name} {_tensor_text(array, limit)}"
    for name, bound in case.tolerance.items():
        if "bound" in bound:
            yield f"  {name} within {bound['bound']} {bound['class']}: {bound['why']}"
    if case.requirements:
        yield f"  requirements {', '.join(case.requirements)}"
    notes = flags()
    for flag in case.flags:
        yield f"  {flag}: {notes[flag]['wrong']} {notes[flag]['breaks']}"


def _tensor_text(array: NDArray, limit: int) -> str:
    elements = ", ".join(element_text(value) for value in array.ravel()[:limit])
    more = ", ..." if array.size > limit else ""
    return f"{array.dtype} {list(array.shape)}: {elements}{more}"

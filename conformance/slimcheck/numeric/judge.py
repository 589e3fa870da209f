"""Findings of a numeric run: what was changed or padded, or is no transform of the float model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.layouts import types_of
from slimcheck.numeric.compare import compare
from slimcheck.numeric.floats import FloatModel
from slimcheck.numeric.records import Change, Comparison, Outcome
from slimcheck.values.modules import Module
from slimspec import layout

LINEAR, FLOAT = "VAL-101", "VAL-102"
EVEN = "MX-005"  # k of the float weight, where two codes share a byte
OF_TYPE = {"W8A16": "W8A16-004", "W4A16": "W4A16-005"}  # types with a requirement of their own


def judge_numeric(
    context: Context,
    chosen: Sequence[Module],
    float_model: str | Path,
    sample: str = "all",
    threads: int = 0,
) -> tuple[list[Comparison], list[Finding], set[str]]:
    """Compare the modules; return the rows, the findings, and which requirements were judged.

    Raises:
        CheckpointError: the float model cannot be read.
        slimcheck.numeric.sample.SampleError: `sample` means nothing.
    """
    model = FloatModel(float_model)
    rows = compare(context, model, chosen, sample, threads)
    judged = {requirement_of(context, row) for row in rows if row.outcome is not Outcome.NOT_JUDGED}
    found = [finding for row in rows for finding in _findings(context, row)]
    columns = _columns(context, model, chosen)
    found += _odd(context, columns)
    return rows, found, judged | {EVEN} if columns else judged


def requirement_of(context: Context, row: Comparison) -> str:
    """Which requirement a row speaks of."""
    base = layout.base_label(row.label, context.profile) or row.label
    return FLOAT if base == "FLOAT" else OF_TYPE.get(base, LINEAR)


def _findings(context: Context, row: Comparison) -> Iterator[Finding]:
    if row.outcome is not Outcome.DIFFERS:
        return
    requirement = requirement_of(context, row)
    if not row.changes:
        name = f"{row.name}.weight"
        yield Finding(
            requirement, "other", row.note, "the float weight within half a step, or a transform",
            (name,), context.file_of(name),
        )  # fmt: skip
    for change in row.changes:
        name = row.name if requirement == FLOAT else f"{row.name}.{change.suffix}"
        expected = (
            "the number of the float model"
            if requirement == FLOAT
            else (f"what {row.numerics} gives, as for the others")
        )
        found = _shown(change)
        yield Finding(requirement, "changed", found, expected, (name,), context.file_of(name))


def _shown(change: Change) -> str:
    return (
        f"element {list(change.at)}: {change.found:.9g} instead of {change.expected:.9g}; "
        f"{change.count} of {change.of} elements"
    )


def _columns(context: Context, model: FloatModel, chosen: Sequence[Module]) -> dict[str, int]:
    """Columns of the float weight behind each weight of two codes in a byte along k."""
    shapes = {
        module.name: model.shape(f"{module.name}.weight")
        for module in chosen
        if not module.types.isdisjoint(types_of(EVEN))
    }
    return {name: shape[1] for name, shape in shapes.items() if shape and len(shape) == 2}


def _odd(context: Context, columns: dict[str, int]) -> Iterator[Finding]:
    for module, k in columns.items():
        if k % 2:
            name = f"{module}.weight"
            found, expected = f"{k} columns in the float model", "an even number of columns"
            yield Finding(EVEN, "odd", found, expected, (name,), context.file_of(name))

"""Findings of a numeric run: what was changed, or is no transform of the float model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.modules import Module
from slimcheck.numeric.compare import compare
from slimcheck.numeric.floats import FloatModel
from slimcheck.numeric.records import Change, Comparison, Outcome
from slimspec import layout

LINEAR, FLOAT = "VAL-101", "VAL-102"
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
    rows = compare(context, FloatModel(float_model), chosen, sample, threads)
    judged = {requirement_of(context, row) for row in rows if row.outcome is not Outcome.NOT_JUDGED}
    found = [finding for row in rows for finding in _findings(context, row)]
    return rows, found, judged


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

"""The verdicts of a numeric run for a person and for a program."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len

import slimspec
from slimcheck.numeric.records import Change, Comparison, Outcome
from slimcheck.report.lang import EN, WORDS, said
from slimspec.patterns import collapse

_HEADER = ("verdict", "count", "type", "SQNR dB", "steps", "where")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def header(lang: str = EN) -> tuple[str, ...]:
    """What the cells of `summary` are."""
    return tuple(WORDS[lang][name] for name in _HEADER)


def summary(rows: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Group rows of one type and verdict: a line each, `header` names the cells."""
    groups: dict[tuple[str, str, str], list[Comparison]] = {}
    for row in rows:
        verdict = _NUMBER.sub("*", row.verdict)
        reason = row.note if row.outcome is Outcome.NOT_JUDGED else ""
        key = (verdict, row.label, _NUMBER.sub("*", re.sub(r"\d+(\.\d+)?", "#", reason)))
        groups.setdefault(key, []).append(row)
    order = list(Outcome)
    found = sorted(groups.items(), key=lambda item: order.index(item[1][0].outcome))
    return [
        (
            verdict, str(len(members)), label, _span([m.sqnr for m in members], ".1f"),
            _span([m.worst for m in members], ".3f"), collapse([m.name for m in members]),
        )
        for (verdict, label, _), members in found
    ]  # fmt: skip


def notes(rows: Sequence[Comparison], lang: str = EN) -> list[str]:
    """Why what was not judged was not: one line a reason, with the first name."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for row in rows:
        if row.outcome is Outcome.NOT_JUDGED:
            reason = re.sub(r"\d+(\.\d+)?", "#", row.note)
            found.setdefault(reason, f"{row.name}: {row.note}")
            counts[reason] = counts.get(reason, 0) + 1
    return [
        said(text + (f" ({counts[reason]}×)" if counts[reason] > 1 else ""), lang)
        for reason, text in found.items()
    ]


def _span(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    low, high = (format(value, form) for value in (min(known), max(known)))
    return low if low == high else f"{low} … {high}"


def text(rows: Sequence[Comparison], sample: str, lang: str = EN) -> Iterator[str]:
    """The section of the terminal report."""
    words = WORDS[lang]
    yield words["compared"].format(sample=sample, count=len(rows))
    cells = [header(lang), *summary(rows)]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(_HEADER) - 1)]
    for row in cells:
        left = "".join(
            cell + " " * (width + 2 - cell_len(cell))
            for cell, width in zip(row, widths, strict=False)
        )
        yield f"  {left}{row[-1]}"
    for line in notes(rows, lang):
        yield f"  {words['not judged'].format(line)}"


def lines(
    rows: Sequence[Comparison], directory: str, float_model: str | None, sample: str
) -> Iterator[str]:
    """One JSON object a line: header, a row per tensor, footer (`numeric.schema.json`)."""
    yield _dump({
        "kind": "header", "tool": "slimcheck", "version": slimspec.__version__,
        "directory": directory, "float_model": float_model, "sample": sample,
    })  # fmt: skip
    for row in rows:
        yield _dump({"kind": "comparison", **_row(row)})
    counts = {str(each): sum(row.outcome is each for row in rows) for each in Outcome}
    yield _dump({"kind": "footer", "comparisons": len(rows), "counts": counts})


def _row(row: Comparison) -> dict[str, Any]:
    return {
        "name": row.name, "label": row.label, "verdict": str(row.outcome),
        "numerics": row.numerics, "equal": row.equal, "worst_steps": _finite(row.worst),
        "slack_steps": _finite(row.slack), "clipped": row.clipped, "sqnr_db": _finite(row.sqnr),
        "cosine": row.cosine,
        "identical": row.sqnr == math.inf, "note": row.note,
        "changes": [_change(change) for change in row.changes],
    }  # fmt: skip


def _change(change: Change) -> dict[str, Any]:
    return {
        "suffix": change.suffix, "count": change.count, "of": change.of, "at": list(change.at),
        "found": _finite(change.found), "expected": _finite(change.expected),
    }  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _dump(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)

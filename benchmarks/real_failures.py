"""Break directories as users have met them, and print whether the judge says so.

    python -m benchmarks.real_failures [--uncovered]

tests/data/user_rows.json holds one row per kind of report that the files alone can show. A row
is reproduced by a golden checkpoint (`case`) or by a patch over one, and is caught if

* `requirement`: the judge reports that id;
* `verdict`: an engine's line says so, for a cause that names `because` (NAME@VERSION: of then);
* `serve`: the line that starts the engine has the option that was missing;
* `refused`: the directory is not judged, with a message that names what it is;
* `accepted`: nothing is reported, because the directory is valid.

Other rows state the `reason` why no requirement covers them, and perhaps a `proposal`. The command
fails if a row that should be caught is not.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from slimcheck.golden import report_of
from slimcheck.report import Report
from slimcheck.run import RunError, run
from slimspec.data import folder
from slimspec.golden import CheckpointCase, checkpoint_cases
from slimspec.golden.patch import apply

ROWS = Path(__file__).resolve().parents[1] / "tests" / "data" / "user_rows.json"
EXPECTATIONS = ("requirement", "verdict", "serve", "refused", "accepted")

Row = dict[str, Any]


class Outcome(NamedTuple):
    """What became of one row."""

    caught: bool
    said: str  # what was expected, in short


def rows() -> list[Row]:
    """Return every row, in the order of the file."""
    content: dict[str, list[Row]] = json.loads(ROWS.read_text(encoding="utf-8"))
    return content["rows"]


def outcome(row: Row) -> Outcome:
    """Reproduce a row and look for what it expects."""
    (kind,) = (name for name in EXPECTATIONS if name in row)
    wanted = row[kind]
    try:
        report = _report(row)
    except RunError as error:
        named = kind == "refused" and wanted.lower() in str(error).lower()
        return Outcome(named, f"refused: {wanted if named else error}")
    if kind == "refused":
        return Outcome(False, f"not refused as {wanted}")
    return _CHECKS[kind](report, row, wanted)


def _report(row: Row) -> Report:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "checkpoint"
        if "case" in row:
            case = _golden()[row["case"]]
            return report_of(case.materialize(directory), case)
        shutil.copytree(_valid(row["base"]), directory)
        apply(row["patch"], directory)
        engine = row.get("verdict", {}).get("engine", "")
        return run(directory, consumers=[engine] if "@" in engine else ())


@cache
def _golden() -> dict[str, CheckpointCase]:
    return {case.id: case for case in checkpoint_cases()}


def _valid(base: str) -> Path:
    return folder("golden") / "checkpoints" / "valid" / base


@cache
def _reported(base: str) -> frozenset[str]:
    """Return what is reported of the valid checkpoint already."""
    return frozenset(result.requirement.id for result in run(_valid(base)).failed)


def _requirement(report: Report, row: Row, wanted: str) -> Outcome:
    return Outcome(wanted in {result.requirement.id for result in report.failed}, wanted)


def _accepted(report: Report, row: Row, wanted: bool) -> Outcome:
    new = {result.requirement.id for result in report.failed} - _reported(row["base"])
    return Outcome(not new, "accepted" if not new else f"reported: {', '.join(sorted(new))}")


def _verdict(report: Report, row: Row, wanted: dict[str, str]) -> Outcome:
    (line,) = (v for v in report.verdicts if v.consumer == wanted["engine"])
    named = any(wanted["because"] in reason for reason in (*line.reasons, *line.notes))
    said = f"{line.consumer}: {line.verdict} ({wanted['because']})"
    return Outcome(named and line.verdict == wanted["verdict"], said)


def _serve(report: Report, row: Row, wanted: dict[str, str]) -> Outcome:
    (line,) = (v for v in report.verdicts if v.consumer == wanted["engine"])
    return Outcome(wanted["text"] in line.serve, f"{line.consumer}: {wanted['text']}")


_CHECKS: dict[str, Callable[[Report, Row, Any], Outcome]] = {
    "requirement": _requirement,
    "accepted": _accepted,
    "verdict": _verdict,
    "serve": _serve,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--uncovered", action="store_true", help="only rows without a requirement")
    uncovered_only = parser.parse_args(arguments).uncovered
    tally = dict.fromkeys((*EXPECTATIONS, "reason"), 0)
    missed = 0
    for row in rows():
        if "reason" in row:
            tally["reason"] += 1
            proposal = f" Proposed: {row['proposal']}." if "proposal" in row else ""
            print(f"{row['row']:>4}  open    {row['report']}: {row['reason']}{proposal}")
        elif not uncovered_only:
            result = outcome(row)
            missed += not result.caught
            tally[next(kind for kind in EXPECTATIONS if kind in row)] += result.caught
            print(f"{row['row']:>4}  {'caught' if result.caught else 'MISSED':<8}"
                  f"{result.said:<52}{row['report']}")  # fmt: skip
    if not uncovered_only:
        caught = sum(tally[kind] for kind in EXPECTATIONS)
        parts = ", ".join(f"{count} {kind}" for kind, count in tally.items() if kind != "reason")
        print(f"\n{caught} of {len(rows())} rows caught ({parts}); {tally['reason']} not covered")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())

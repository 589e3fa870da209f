"""Print how much of the producer's recorded checkpoints comes out bit for bit.

    python -m benchmarks.oracle_report [--markdown] [--unmatched]

One row per recorded run: linears redone, tensors compared, tensors that differ, the share of equal
weight codes, and how they were made. What was not redone is listed with its reason. The oracle
is $SLIMSPEC_ORACLE or ../shared/oracle; the same replay is judged by tests/oracle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracle"))

from oracle_replay import CaseReport, find_cases, oracle_root, replay

HEADER = ("run", "linears", "tensors", "differ", "equal codes", "how")


def row(report: CaseReport) -> tuple[str, ...]:
    """Return the cells of one run."""
    share = report.equal_share
    how = "; ".join(report.methods) or "; ".join(report.skipped) or "no linear"
    return (
        report.name,
        str(len(report.linears)),
        str(report.tensors),
        str(len(report.mismatches)),
        "-" if share is None else f"{share:.4%}",
        how,
    )


def total(reports: Iterable[CaseReport]) -> str:
    """Return one sentence: what is exact by formula, what a solver gives, what is left out."""
    linears = [x for r in reports for x in r.linears]
    exact = [x for x in linears if x.exact]
    solved = [x for x in linears if not x.exact and not x.unknown]
    wrong = sum(len(x.mismatches) for x in exact)
    text = (
        f"{len(exact)} linears reproduced by formula, "
        f"{sum(x.tensors for x in exact)} tensors, {wrong} mismatches"
    )
    codes = sum(x.codes for x in solved)
    if codes:
        equal = sum(x.equal_codes for x in solved)
        text += f"; {len(solved)} linears by a solver, {equal / codes:.4%} of weight codes equal"
    measured = [x for x in linears if x.unknown]
    codes = sum(x.codes for x in measured)
    if codes:
        equal = sum(x.equal_codes for x in measured)
        text += f"; {len(measured)} only measured, {equal / codes:.4%} equal"
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 if a tensor differs that a formula gives, 5 if nothing was compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--unmatched", action="store_true", help="also list what was not redone")
    options = parser.parse_args(arguments)
    reports = [replay(path) for path in find_cases(oracle_root())]
    if not any(r.linears for r in reports):
        print(f"nothing to compare in {oracle_root()}", file=sys.stderr)
        return 5
    rows = [row(r) for r in reports]
    if options.markdown:
        print_markdown(rows)
    else:
        print_columns(rows)
    print(f"\n{total(reports)}")
    if options.unmatched:
        for report in reports:
            for why, count in report.skipped.items():
                print(f"{report.name}: {count}× {why}")
    return int(any(x.mismatches for r in reports for x in r.linears if x.exact))


def print_columns(rows: list[tuple[str, ...]]) -> None:
    """Print the table for a terminal."""
    widths = [max(len(r[i]) for r in [HEADER, *rows]) for i in range(len(HEADER) - 1)]
    for cells in [HEADER, *rows]:
        left = "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=False))
        )
        print(f"{left}  {cells[-1]}")


def print_markdown(rows: list[tuple[str, ...]]) -> None:
    """Print the table for a page."""
    print("| " + " | ".join(HEADER) + " |")
    print("|---|--:|--:|--:|--:|---|")
    for cells in rows:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    raise SystemExit(main())

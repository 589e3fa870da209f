"""The command `slimcheck report-check FILE`: whether a stored JSONL report is whole.

A run that was killed leaves a report without its footer; taken for a clean one it would pass
anything. The exit code is that of the run that wrote the report, or says why there is none.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from slimcheck.report.lang import visible
from slimcheck.report.model import ExitCode

LINE_LIMIT = 64 << 20  # bytes


class ReportError(ValueError):
    """The file is no report; the message is one line."""


class TruncatedError(ReportError):
    """The file is the beginning, or a part, of a report."""


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="slimcheck report-check",
        description="Check that a JSONL report is whole, and return the exit code of its run.",
        epilog="exit codes: that of the run; 4 no report; 7 truncated, or lines are missing",
    )
    parser.add_argument("file", metavar="FILE", type=Path)
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return 4 if stop.code else 0
    try:
        header, footer = read_report(args.file)
    except ReportError as error:
        print(f"slimcheck report-check: {visible(str(error))}", file=sys.stderr)
        truncated = isinstance(error, TruncatedError)
        return int(ExitCode.TRUNCATED if truncated else ExitCode.UNUSABLE)
    code = ExitCode(footer["exit_code"])
    verdict = code.name.lower().replace("_", " ")
    print(visible(f"{header['directory']}: {verdict}, {footer['findings']} findings"))
    return int(code)


def read_report(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and footer of a whole report.

    Raises:
        TruncatedError: the last line is cut, there is no footer, or it counts other findings.
        ReportError: the file cannot be read, or a line is none of a report.
    """
    try:
        with path.open("rb") as stream:
            rows = list(_ends(path, stream))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from None
    if not rows or rows[0]["kind"] != "header":
        raise ReportError(f"{path}: found no header, expected one in line 1")
    header, footer = rows[0], rows[-1]
    if footer["kind"] != "footer":
        raise TruncatedError(f"{path}: truncated: no footer in the last line")
    if footer["findings"] != footer.pop("read"):
        raise TruncatedError(f"{path}: lines are missing: the footer counts other findings")
    return header, footer


def _ends(path: Path, stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """The first and the last row; a footer with the number of findings `read` before it."""
    from slimspec.jsonschemas import validator

    check = validator("report")
    last: dict[str, Any] = {}
    findings = number = 0
    while line := stream.readline(LINE_LIMIT):
        number += 1
        if not line.endswith(b"\n"):
            raise TruncatedError(f"{path}:{number}: truncated: the line does not end")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise ReportError(f"{path}:{number}: found no JSON, expected a row") from None
        if not check.is_valid(row) or (number > 1) is (row["kind"] == "header"):
            raise ReportError(f"{path}:{number}: found no row of a report there")
        if last.get("kind") == "footer":
            raise ReportError(f"{path}:{number}: found a row after the footer")
        findings += row["kind"] == "finding"
        last = row
        if number == 1:
            yield row
    if number > 1:
        yield last | ({"read": findings} if last["kind"] == "footer" else {})

"""The command `slimcheck diff A B`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from slimcheck.diff import ABSENT, KINDS, Change, diff
from slimcheck.report.lang import visible
from slimcheck.report.terminal import terminal
from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip

_EPILOG = """\
exit codes: 0 the same checkpoint, 1 different, 4 wrong usage or a directory that cannot be compared

Tensors are compared by name, whatever file holds them; an index says nothing of its own."""
_MARKS = {"added": "+", "removed": "-", "changed": "~"}
_STYLES = {"added": "green", "removed": "red", "changed": "yellow"}


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="slimcheck diff",
        description="Print what changed between two checkpoint directories.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument(
        "--level", choices=("layout", "values"), default="values",
        help="layout: headers and JSON only; values: also bytes (default)",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="print the last line only")
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return 4 if stop.code else 0
    try:
        with _progress() as advance:
            changes = diff(args.a, args.b, values=args.level == "values", advance=advance)
    except CheckpointError as error:
        print(f"slimcheck diff: {error}", file=sys.stderr)
        return 4
    _print(changes, args.level, args.quiet)
    return 1 if changes else 0


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Count bytes on the error stream, at a terminal only."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), "compared", DownloadColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda nbytes: progress.advance(task, nbytes)


def _print(changes: Sequence[Change], level: str, quiet: bool) -> None:
    from rich.text import Text

    console = terminal()
    for kind in () if quiet else KINDS:
        for change in changes:
            if change.kind == kind:
                line = Text.assemble((f"{_MARKS[_way(change)]} {kind:<9}", _STYLES[_way(change)]))
                line.append(visible(_text(change)))
                console.print(line, soft_wrap=True)
    if not changes:
        beyond = "" if level == "values" else " at level layout: no value was compared"
        console.print(Text(f"the same{beyond}"), soft_wrap=True)
        return
    count = sum(len(change.names) for change in changes)
    console.print(Text(f"different: {count} changes of {len(changes)} kinds"), soft_wrap=True)


def _way(change: Change) -> str:
    if change.a == ABSENT:
        return "added"
    return "removed" if change.b == ABSENT else "changed"


def _text(change: Change) -> str:
    """PATTERN (count): what A has -> what B has."""
    where = change.pattern + (f" ({len(change.names)}×)" if len(change.names) > 1 else "")
    if change.kind in ("file", "part") and ABSENT in (change.a, change.b):
        return where
    if not change.a and not change.b:
        return where
    sides = [clip(side, 80) for side in (change.a, change.b) if side != ABSENT]
    return f"{where}: {' -> '.join(sides)}"

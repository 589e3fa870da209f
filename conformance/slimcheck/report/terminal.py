"""The report for a person at a terminal: where, found, expected, effect, fix."""

import os
import sys
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

import slimspec
from slimcheck.engine import Result
from slimcheck.findings import Group
from slimcheck.numeric.table import text as numeric_text
from slimcheck.report.lang import EN, WORDS, said, visible
from slimcheck.report.model import Report
from slimcheck.report.view import (
    Block,
    block,
    blocks,
    conclusion,
    heading,
    reasons,
    serve,
    unmatched,
    worst,
)
from slimcheck.verdicts import Verdict
from slimcheck.verdicts_words import OK
from slimspec.output import carried

_FIELD = 10  # width of the field names
_STYLES = {"ERROR": "bold red", "WARN": "yellow", "NOTE": "cyan", "WAIVED": "dim"}


class AsciiStream:
    """A text stream that writes ASCII only: symbols by their look, the rest as escapes."""

    encoding = "ascii"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(carried(text, self.encoding))

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


def is_posix_locale(environ: Mapping[str, str]) -> bool:
    """Whether the user has no locale but C or POSIX.

    Python itself sets LC_CTYPE=C.UTF-8 where there is no locale (PEP 538), so that value alone
    tells nothing.
    """
    for key in ("LC_ALL", "LC_CTYPE", "LANG"):
        value = environ.get(key, "")
        if value and not (key == "LC_CTYPE" and value == "C.UTF-8"):
            return value in ("C", "POSIX")
    return True


def terminal(lang: str = EN, stream: TextIO | None = None) -> Console:
    """A console on `stream` (standard output) that the locale and NO_COLOR agree with.

    Raises:
        UnicodeEncodeError: the stream cannot carry the language.
    """
    stream = sys.stdout if stream is None else stream
    file: TextIO | AsciiStream = stream
    if lang == EN and is_posix_locale(os.environ):
        file = AsciiStream(stream)
    elif stream.encoding:
        WORDS[lang]["found"].encode(stream.encoding)
    colour = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=file, highlight=False, color_system=colour)  # type: ignore[arg-type]


def print_report(report: Report, console: Console, quiet: bool = False, lang: str = EN) -> None:
    """Print the report, on a terminal no more than a person reads; `quiet` leaves the verdict."""
    if not quiet:
        _print_heading(report, console, lang)
        shown, left = worst(report, lang) if console.is_terminal else (blocks(report, lang), 0)
        for each in shown:
            console.print()
            _print_block(each, console, lang)
        console.print()
        if left:
            _print_line(Text(WORDS[lang]["left"].format(left), style="yellow"), console)
            console.print()
        _print_numeric(report, console, lang)
    _print_verdict(report, console, lang, quiet)


def _print_numeric(report: Report, console: Console, lang: str) -> None:
    if report.options.level == "numeric":
        for line in numeric_text(report.comparisons, report.options.sample, lang):
            console.print(Text(visible(line)), soft_wrap=True)
        console.print()


def print_notes(report: Report, console: Console, lang: str = EN) -> None:
    """Print what a test runner has not said itself: heading, findings that do not fail, verdict."""
    _print_heading(report, console, lang)
    for each in blocks(report, lang):
        if each.severity != "ERROR":
            console.print()
            _print_block(each, console, lang)
    console.print()
    _print_verdict(report, console, lang)


def print_group(result: Result, group: Group, console: Console, lang: str = EN) -> None:
    """Print one group of findings as a block of five fields."""
    _print_block(block(result, group, lang), console, lang)


def _print_block(each: Block, console: Console, lang: str) -> None:
    severity = WORDS[lang][each.severity]
    head = Text.assemble(
        (f"{severity:<6}", _STYLES[each.severity]), (f"{each.id}  ", "bold"), each.title
    )
    if not console.is_terminal:  # one line a field, however long: a program may read it
        fields = [Text(f"  {_padded(name)}{text}") for name, text in each.fields]
        _print_line(Text("\n").join([head, *fields]), console)
        return
    _print_line(head, console)
    grid = Table.grid(padding=0)
    grid.add_column(width=_FIELD + 2, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in each.fields:
        grid.add_row(Text(f"  {name}"), Text(text))
    console.print(grid)


def _padded(name: str) -> str:
    return name + " " * (_FIELD - Text(name).cell_len)


def _print_line(line: Text, console: Console) -> None:
    """Wrap at a terminal's width; elsewhere a line stays one line."""
    console.print(line, soft_wrap=not console.is_terminal)


def _print_advice(verdict: Verdict, console: Console, lang: str) -> None:
    words = WORDS[lang]
    lines = [(words["note"], said(note, lang)) for note in verdict.notes]
    if verdict.serve:
        lines.append((words["serve with"], serve(verdict, lang)))
    for name, text in lines:
        _print_line(Text(f"    {name}  {visible(text)}", style="dim"), console)


def _print_heading(report: Report, console: Console, lang: str) -> None:
    who, what = heading(report, lang)
    first = f"slimcheck {slimspec.__version__}  {visible(report.directory)}"
    for line in (first, who, what):
        _print_line(Text(line), console)


def _print_verdict(report: Report, console: Console, lang: str, quiet: bool = False) -> None:
    words = WORDS[lang]
    for verdict in report.verdicts:
        because = words["because of"].format(reasons(verdict, lang)) if verdict.reasons else ""
        style = "green" if verdict.verdict == OK else "yellow"
        named = (words[verdict.verdict], style)
        _print_line(Text.assemble(f"  {verdict.consumer:<20}", named, Text(because)), console)
        if not quiet:
            _print_advice(verdict, console, lang)
    for line in unmatched(report, lang):
        _print_line(Text(f"  {line}", style="yellow"), console)
    verdict_text, counts = conclusion(report, lang)
    style = "bold red" if report.exit_code else "bold green"
    _print_line(Text.assemble((verdict_text, style), words["colon"], counts), console)

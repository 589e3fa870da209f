"""The report for a person at a terminal: where, found, expected, effect, fix."""

from rich.console import Console
from rich.text import Text

import slimspec
from slimcheck.engine import Result
from slimcheck.findings import Group
from slimcheck.report.model import Report
from slimcheck.verdicts import OK

_FIELD = 10  # width of the field names
_STYLES = {"ERROR": "bold red", "WARN": "yellow", "NOTE": "cyan"}


def print_report(report: Report, console: Console, quiet: bool = False) -> None:
    """Print the whole report; `quiet` leaves only the verdict."""
    if not quiet:
        console.print(_heading(report), soft_wrap=True)
        for result in sorted(report.failed, key=lambda r: not r.counts):
            for group in result.groups:
                console.print()
                print_group(result, group, console)
        console.print()
    _print_verdict(report, console)


def print_notes(report: Report, console: Console) -> None:
    """Print what a test runner has not said itself: heading, findings that do not fail, verdict."""
    console.print(_heading(report), soft_wrap=True)
    for result in report.failed:
        if not result.counts:
            for group in result.groups:
                console.print()
                print_group(result, group, console)
    console.print()
    _print_verdict(report, console)


def print_group(result: Result, group: Group, console: Console) -> None:
    """Print one group of findings as a block of five fields."""
    requirement = result.requirement
    severity = severity_of(result)
    head = Text.assemble(
        (f"{severity:<6}", _STYLES[severity]), (f"{requirement.id}  ", "bold"), requirement.title
    )
    console.print(head, soft_wrap=True)
    where = group.pattern or group.file or "the directory"
    if group.count > 1:
        where += f"  ({group.count}×)"
    if group.pattern and group.file:
        where += f"  in {group.file}"
    source = f"  ({requirement.source[0]})" if requirement.source else ""
    fields = [
        ("where", where),
        ("found", group.found),
        ("expected", group.expected + source),
        ("effect", _effect(result)),
        ("fix", group.fix or requirement.fix),
    ]
    for name, text in fields:
        console.print(Text(f"  {name:<{_FIELD}}{text}"), soft_wrap=True)


def severity_of(result: Result) -> str:
    """ERROR decides the exit code; WARN is a SHOULD; NOTE concerns an engine not asked for."""
    if result.counts:
        return "ERROR"
    return "WARN" if result.requirement.level == "SHOULD" else "NOTE"


def _effect(result: Result) -> str:
    requirement = result.requirement
    engines = ", ".join(requirement.scope.consumers)
    return f"{engines}: {requirement.why}" if engines else requirement.why


def _heading(report: Report) -> str:
    types = ", ".join(f"{label} ×{count}" for label, count in sorted(report.types.items()))
    return (
        f"slimcheck {slimspec.__version__}  {report.directory}\n"
        f"profile {report.profile} ({'; '.join(report.evidence)}), "
        f"model dtype {report.model_dtype or 'unknown'}, level {report.options.level}\n"
        f"{report.tensors} tensors in {report.files} files, {report.nbytes:,} bytes"
        + (f"; weights: {types}" if types else "")
    )


def _print_verdict(report: Report, console: Console) -> None:
    for verdict in report.verdicts:
        reasons = f"  ({', '.join(verdict.reasons)})" if verdict.reasons else ""
        style = "green" if verdict.verdict == OK else "yellow"
        line = Text.assemble(f"  {verdict.consumer:<20}", (verdict.verdict, style), Text(reasons))
        console.print(line, soft_wrap=True)
    counts = report.counts
    passed = counts.get("passed", 0)
    if report.conformant:
        line = Text(f"CONFORMANT to profile {report.profile}", style="bold green")
    else:
        line = Text(f"{report.exit_code.name.replace('_', ' ')}", style="bold red")
    tail = f": {counts['must']} violated, {passed} passed"
    if counts["notes"]:
        tail += f", {counts['notes']} to note"
    console.print(Text.assemble(line, tail), soft_wrap=True)

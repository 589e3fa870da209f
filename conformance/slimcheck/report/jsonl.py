"""The report for programs: one JSON object a line, header first, footer last.

The form is fixed by `schemas/report.schema.json`. A file without its footer is a truncated report.
"""

import json
from collections.abc import Iterator
from typing import Any

import slimspec
from slimcheck.engine import Result
from slimcheck.findings import Group
from slimcheck.report.model import Report

FIRST = 10  # tensors named per finding


def lines(report: Report) -> Iterator[str]:
    yield _dump(_header(report))
    for result in report.failed:
        for group in result.groups:
            for scope in result.requirement.scope.consumers or (result.requirement.scope.kind,):
                yield _dump(_finding(result, group, scope))
    yield _dump(_footer(report))


def _dump(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _header(report: Report) -> dict[str, Any]:
    options = report.options
    return {
        "kind": "header",
        "tool": "slimcheck",
        "version": slimspec.__version__,
        "directory": report.directory,
        "family": report.kind,
        "profile": report.profile,
        "model_dtype": report.model_dtype,
        "level": options.level,
        "consumers": list(options.consumers),
        "select": list(options.select),
        "ignore": list(options.ignore),
        "tensor": options.tensor,
        "strict": options.strict,
        "tensors": report.tensors,
        "files": report.files,
        "bytes": report.nbytes,
    }


def _finding(result: Result, group: Group, scope: str) -> dict[str, Any]:
    requirement = result.requirement
    return {
        "kind": "finding",
        "requirement": requirement.id,
        "level": requirement.level,
        "scope": scope,
        "verdict": "violated" if result.counts else "noted",
        "pattern": group.pattern,
        "count": group.count,
        "tensors": group.tensors[:FIRST],
        "file": group.file,
        "expected": group.expected,
        "found": group.found,
        "fix": group.fix or requirement.fix,
    }


def _footer(report: Report) -> dict[str, Any]:
    return {
        "kind": "footer",
        "conformant": report.conformant,
        "exit_code": int(report.exit_code),
        "counts": report.counts,
        "verdicts": {
            v.consumer: {"verdict": v.verdict, "reasons": list(v.reasons)} for v in report.verdicts
        },
    }

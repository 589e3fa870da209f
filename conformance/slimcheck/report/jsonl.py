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
    count = 0
    for row in _findings(report):
        count += 1
        yield _dump(row)
    yield _dump(_footer(report, count))


def _findings(report: Report) -> Iterator[dict[str, Any]]:
    for result in report.results:
        scopes = result.requirement.scope.consumers or (result.requirement.scope.kind,)
        for group in result.groups:
            verdict = "violated" if result.counts else "noted"
            yield from (_finding(result, group, scope, verdict) for scope in scopes)
        for group, reason in result.waived:
            rows = (_finding(result, group, scope, "waived") for scope in scopes)
            yield from (row | {"reason": reason} for row in rows)


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
        "soc": options.soc or None,
        "tp": options.tp,
        "select": list(options.select),
        "ignore": list(options.ignore),
        "tensor": options.tensor,
        "strict": options.strict,
        "waivers": [
            {"requirement": w.requirement, "pattern": w.pattern, "reason": w.reason}
            for w in report.waivers
        ],
        "tensors": report.tensors,
        "files": report.files,
        "bytes": report.nbytes,
    }


def _finding(result: Result, group: Group, scope: str, verdict: str) -> dict[str, Any]:
    requirement = result.requirement
    return {
        "kind": "finding",
        "requirement": requirement.id,
        "level": requirement.level,
        "scope": scope,
        "verdict": verdict,
        "pattern": group.pattern,
        "count": group.count,
        "tensors": group.tensors[:FIRST],
        "file": group.file,
        "expected": group.expected,
        "found": group.found,
        "fix": requirement.advice(group.kind).fix,
    }


def _footer(report: Report, findings: int) -> dict[str, Any]:
    return {
        "kind": "footer",
        "findings": findings,
        "conformant": report.conformant,
        "exit_code": int(report.exit_code),
        "counts": report.counts,
        "unmatched_waivers": [f"{w.requirement} {w.pattern}" for w in report.unmatched],
        "verdicts": {
            v.consumer: {
                "verdict": v.verdict,
                "reasons": list(v.reasons),
                "version": v.version,
                "serve": v.serve,
                "notes": list(v.notes),
            }
            for v in report.verdicts
        },
    }

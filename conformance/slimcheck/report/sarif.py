"""The report for code scanning: SARIF 2.1.0, one run, one result per group of findings.

Source: OASIS Static Analysis Results Interchange Format (SARIF) Version 2.1.0.
"""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import slimspec
from slimcheck.engine import Result
from slimcheck.explain import scope_text
from slimcheck.findings import Group
from slimcheck.report.lang import visible
from slimcheck.report.model import ExitCode, Report
from slimcheck.report.view import severity_of
from slimspec import requirements
from slimspec.requirements import Requirement

FIRST = 10  # tensors and files named per result
BASE = "CHECKPOINT"
SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {"ERROR": "error", "WARN": "warning", "NOTE": "note"}


def document(report: Report) -> bytes:
    """Return the SARIF log."""
    catalogue = requirements.load()
    places = {key: index for index, key in enumerate(catalogue)}
    results = []
    for result in report.results:
        index = places[result.requirement.id]
        results += [_result(result, group, index) for group in result.groups]
        results += [_waived(result, group, index, reason) for group, reason in result.waived]
    run = {
        "tool": {"driver": _driver([_rule(row) for row in catalogue.values()])},
        "language": "en",
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {BASE: {"uri": _base(report.directory)}},
        "invocations": [_invocation(report)],
        "results": results,
        "properties": {"profile": report.profile, "level": report.options.level},
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return (json.dumps(log, ensure_ascii=False, indent=1) + "\n").encode()


def _driver(rules: list[dict[str, Any]]) -> dict[str, Any]:
    version = slimspec.__version__
    return {"name": "slimcheck", "version": version, "semanticVersion": version, "rules": rules}


def _base(directory: str) -> str:
    return Path(directory).resolve().as_uri().rstrip("/") + "/"


def _rule(row: Requirement) -> dict[str, Any]:
    sources = "".join(f"\n- `{source}`" for source in row.source)
    return {
        "id": row.id,
        "shortDescription": {"text": row.title},
        "fullDescription": {"text": f"{row.title} {row.why}"},
        "help": {
            "text": f"{row.why}\nFix: {row.fix}",
            "markdown": f"{row.why}\n\n**Fix:** {row.fix}\n\nSource:\n{sources}",
        },
        "defaultConfiguration": {"level": "error" if row.level == "MUST" else "warning"},
        "properties": {
            "tags": list(dict.fromkeys((row.chapter, *row.types))),
            "scope": scope_text(row),
        },
    }


def _invocation(report: Report) -> dict[str, Any]:
    notes = [
        {
            "level": "error",
            "message": {"text": visible(f"waiver {w.requirement} {w.pattern} meets no finding")},
        }
        for w in report.unmatched
    ]
    return {
        "executionSuccessful": report.exit_code is not ExitCode.NOTHING_CHECKED,
        "exitCode": int(report.exit_code),
        "exitCodeDescription": report.exit_code.name.lower().replace("_", " "),
        "toolExecutionNotifications": notes,
    }


def _result(result: Result, group: Group, index: int) -> dict[str, Any]:
    requirement = result.requirement
    advice = requirement.advice(group.kind)
    where = f"{group.pattern} ({group.count}): " if group.pattern else ""
    text = f"{where}found {group.found}; expected {group.expected}. {advice.why} Fix: {advice.fix}"
    return {
        "ruleId": requirement.id,
        "ruleIndex": index,
        "kind": "fail",
        "level": _LEVELS[severity_of(result)],
        "message": {"text": visible(text)},
        "locations": _locations(group),
        "partialFingerprints": {"slimcheck/v1": fingerprint(group)},
        "properties": {
            "found": visible(group.found),
            "expected": visible(group.expected),
            "count": group.count,
        },
    }


def _waived(result: Result, group: Group, index: int, reason: str) -> dict[str, Any]:
    suppression = {"kind": "external", "status": "accepted", "justification": visible(reason)}
    return _result(result, group, index) | {"suppressions": [suppression]}


def fingerprint(group: Group) -> str:
    """What stays the same of a finding from run to run: requirement, kind and names.

    Not what was found: a wrong value that changed is still the same finding.
    """
    names = "\0".join(sorted(group.tensors) or sorted(group.files))
    text = f"{group.requirement}\0{group.kind}\0{names}"
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _locations(group: Group) -> list[dict[str, Any]]:
    """The files, or the directory; the first tensors belong to the first of them."""
    names = [{"fullyQualifiedName": visible(n), "kind": "object"} for n in group.tensors[:FIRST]]
    uris = [_uri(file) for file in sorted(group.files)[:FIRST]] or ["./"]
    locations: list[dict[str, Any]] = [
        {"physicalLocation": {"artifactLocation": {"uri": uri, "uriBaseId": BASE}}} for uri in uris
    ]
    if names:
        locations[0]["logicalLocations"] = names
    return locations


def _uri(file: str) -> str:
    return quote(file.encode("utf-8", "surrogateescape"))

"""The report for continuous integration: JUnit XML, one test case per requirement."""

from xml.etree import ElementTree

from slimcheck.engine import Result, Status
from slimcheck.report.model import Report


def document(report: Report) -> bytes:
    """Return the JUnit XML document."""
    failures = sum(result.counts for result in report.results)
    skipped = sum(result.status not in (Status.PASSED, Status.FAILED) for result in report.results)
    attributes = {
        "name": f"slimcheck {report.directory}",
        "tests": str(len(report.results)),
        "failures": str(failures),
        "errors": "0",
        "skipped": str(skipped),
    }
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", attributes)
    for result in report.results:
        _case(suite, result)
    return ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)


def _case(suite: ElementTree.Element, result: Result) -> None:
    requirement = result.requirement
    chapter = requirement.id.rpartition("-")[0]
    case = ElementTree.SubElement(
        suite, "testcase", {"classname": f"slimcheck.{chapter}", "name": requirement.id}
    )
    text = "\n".join(
        f"{group.pattern or group.file} ({group.count}): found {group.found}; "
        f"expected {group.expected}; fix: {requirement.advice(group.kind).fix}"
        for group in result.groups
    )
    if result.counts:
        failure = ElementTree.SubElement(case, "failure", {"message": _clean(requirement.title)})
        failure.text = _clean(text)
    elif result.status is Status.WAIVED:
        reasons = "; ".join(dict.fromkeys(reason for _, reason in result.waived))
        ElementTree.SubElement(case, "skipped", {"message": _clean(f"waived: {reasons}")})
    elif result.groups:
        ElementTree.SubElement(case, "system-out").text = _clean(text)
    elif result.status is not Status.PASSED:
        ElementTree.SubElement(case, "skipped", {"message": str(result.status)})


def _clean(text: str) -> str:
    """Drop characters that XML 1.0 cannot carry (a hostile tensor name may hold them)."""
    return "".join(
        c if c in "\t\n\r" or " " <= c <= "\ud7ff" or c > "\udfff" else "�" for c in text
    )

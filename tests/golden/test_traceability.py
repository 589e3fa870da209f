"""The generated pages are in step with the data, and no requirement stands without evidence."""

import re

import pytest

from slimcheck.catalogue import REQUIREMENTS, TRACEABILITY, checks, requirements_page, unchecked
from slimcheck.explain import explanation
from slimcheck.mutations import requirement_of
from slimcheck.traceability import Trace, spans, traceability_page, traces
from slimspec import requirements
from slimspec.data import folder
from slimspec.golden import checkpoint_cases

DOCS = folder("schemas").parent / "docs"
STALE = "run python -m slimcheck.catalogue"


@pytest.fixture(scope="module")
def rows() -> list[Trace]:
    return traces()


def test_catalogue_page_is_in_step() -> None:
    assert (DOCS / REQUIREMENTS).read_text(encoding="utf-8") == requirements_page(), STALE


def test_traceability_page_is_in_step(rows: list[Trace]) -> None:
    assert (DOCS / TRACEABILITY).read_text(encoding="utf-8") == traceability_page(rows), STALE


def test_every_requirement_has_a_check_or_the_reason_why_not(rows: list[Trace]) -> None:
    for row in rows:
        assert row.checks or unchecked()[row.requirement.id], row.requirement.id


def test_every_checked_requirement_has_a_source_and_a_mutation(rows: list[Trace]) -> None:
    for row in rows:
        assert row.requirement.source, row.requirement.id
        assert row.invalid or not row.checks, row.requirement.id


def test_only_what_forbids_its_subject_has_no_valid_golden(rows: list[Trace]) -> None:
    for row in rows:
        forbids = row.requirement.title.startswith(("There is no ", "No tensor is labelled "))
        assert row.valid or forbids or not row.checks, row.requirement.id


def test_every_requirement_has_its_anchor_in_the_catalogue(rows: list[Trace]) -> None:
    headings = re.findall(r"^### (.+)$", (DOCS / REQUIREMENTS).read_text(encoding="utf-8"), re.M)
    assert headings == _by_chapter(rows)


def _by_chapter(rows: list[Trace]) -> list[str]:
    chapters = list(dict.fromkeys(row.requirement.chapter for row in rows))
    ids = [row.requirement.id for row in rows]
    return sorted(ids, key=lambda key: chapters.index(key.rpartition("-")[0]))


def test_every_evidence_leads_to_a_requirement(rows: list[Trace]) -> None:
    known = requirements.load().keys()
    assert checks().keys() == known
    for case in checkpoint_cases():
        assert case.valid or requirement_of(case.id) in known, case.id
        assert {expected.requirement for expected in case.expected} <= known, case.id


def test_every_invalid_checkpoint_states_what_it_is_made_for() -> None:
    for case in checkpoint_cases():
        if not case.valid:
            assert requirement_of(case.id) in {e.requirement for e in case.expected}, case.id


def test_every_golden_checkpoint_is_on_the_page() -> None:
    text = (DOCS / TRACEABILITY).read_text(encoding="utf-8")
    back = text[text.index("## Back") :]
    for case in checkpoint_cases():
        assert f"| {case.id} |" in back, case.id


def test_page_says_what_explain_says() -> None:
    page = requirements_page().replace("\\", "")
    for requirement in requirements.load().values():
        entry = page[page.index(f"### {requirement.id}\n") :].split("\n### ")[0]
        told = "".join(explanation(requirement).split())  # which wraps long paths
        for text in (requirement.title, requirement.why, requirement.fix, *requirement.source):
            assert text.replace("\\", "") in entry, requirement.id
            assert "".join(text.split()) in told, requirement.id


def test_ids_are_written_in_spans() -> None:
    assert spans(["A-001", "A-002", "A-003", "A-007", "B-001"]) == "A-001…003, 007; B-001"


def test_case_id_without_a_requirement_is_refused() -> None:
    with pytest.raises(ValueError, match="golden case 'x': expected an id such as dir-001"):
        requirement_of("x")

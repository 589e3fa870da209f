"""What each invalid golden checkpoint trips: the mutations that the rules are measured by.

A *mutation* is an invalid golden checkpoint, a patch over a valid one. It trips a requirement if
there is a finding of that id which the unbroken base does not have. Every other id that is new is
a *consequence*; the case must state it. The id of a case begins with the requirement that it is
made for: `dir-002-missing` is made for DIR-002.
"""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from slimcheck.golden import findings, report_of
from slimspec.golden import CheckpointCase, Expected, checkpoint_cases

_ID = re.compile(r"([a-z0-9]+-\d{3})(-.+)?")


@dataclass(frozen=True)
class Mutation:
    """What one invalid golden checkpoint does.

    Attributes:
        found: the findings that the case is about (see `CheckpointCase.notes`).
        tripped: ids with findings that the base does not have, notes included.
    """

    case: CheckpointCase
    found: frozenset[Expected]
    tripped: frozenset[str]

    @property
    def requirement(self) -> str:
        return requirement_of(self.case.id)

    @property
    def consequences(self) -> list[str]:
        return sorted(self.tripped - {self.requirement})

    @property
    def caught(self) -> bool:
        """Whether it trips what it is made for, and no more than the case states."""
        return self.requirement in self.tripped and self.found == self.case.expected


def requirement_of(case: str) -> str:
    """Return the requirement that the golden case of this id is made for.

    Raises:
        ValueError: the id does not begin with one.
    """
    match = _ID.fullmatch(case)
    if match is None:
        raise ValueError(f"golden case {case!r}: expected an id such as dir-001 or dir-001-more")
    return match[1].upper()


def mutations() -> Iterator[Mutation]:
    """Judge every invalid golden checkpoint and its base, in the order of the manifest."""
    bases: dict[tuple[str, str], set[Expected]] = {}
    for case in checkpoint_cases():
        if case.valid:
            continue
        beside = case.float_model if case.patch else None  # else that model is what is broken
        key = (case.base, repr(beside))
        if key not in bases:
            base = replace(case, patch=(), tp=None, producer=None, float_model=beside)
            bases[key] = _judged(base)[0]
        everything, stated = _judged(case)
        known = {finding.requirement for finding in bases[key]}
        tripped = {f.requirement for f in everything if f.requirement not in known}
        own = requirement_of(case.id)
        if any(finding.requirement == own for finding in everything - bases[key]):
            tripped.add(own)
        yield Mutation(case, frozenset(stated), frozenset(tripped))


def _judged(case: CheckpointCase) -> tuple[set[Expected], set[Expected]]:
    """Return every finding of a case, and those that it is about."""
    with tempfile.TemporaryDirectory() as temporary:
        report = report_of(case.materialize(Path(temporary) / "checkpoint"), case)
    return findings(report, notes=True), findings(report, case.notes)

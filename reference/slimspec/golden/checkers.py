"""Golden checkpoints for the tests of others: written out, or fed to a loader or checker.

`expect.json` says of every directory what a judge must do (`verdict`) and which findings there
are. A command is run once per checkpoint; exit code 0 accepts it, any other refuses it; a crash or
a timeout does neither. What cannot be known from the directory alone (ranks, a forced profile, the
float model) is not asked of a command.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from slimspec import requirements
from slimspec.checkpoint.partial import NewDirectory
from slimspec.golden import command as commands
from slimspec.golden.checkpoints import (
    KINDS,
    CheckpointCase,
    checkpoint_cases,
    generated_cases,
)

_PLACE = "{checkpoint}"
GROUPS = ("valid", "generated", *KINDS)


def group_of(case: CheckpointCase) -> str:
    """Return the group of a case: "valid", "generated", or the kind of an invalid one."""
    return case.kind or ("generated" if case.cell else "valid")


def select(groups: Sequence[str] = (), globs: Sequence[str] = ()) -> list[CheckpointCase]:
    """Return the cases of some groups whose id matches a glob.

    Args:
        groups: of `GROUPS`; none means all, but generated ones only if there are globs.
        globs: over ids; none means all.

    Raises:
        ValueError: a glob that matches nothing.
    """
    chosen = groups or (GROUPS if globs else [g for g in GROUPS if g != "generated"])
    cases = checkpoint_cases() + (generated_cases() if "generated" in chosen else [])
    cases = [case for case in cases if group_of(case) in chosen]
    for glob in globs:
        if not any(fnmatchcase(case.id, glob) for case in cases):
            raise ValueError(f"no checkpoint {glob!r} here; `slimspec golden list --kind KIND`")
    return [case for case in cases if not globs or any(fnmatchcase(case.id, g) for g in globs)]


def write(cases: Iterable[CheckpointCase], directory: Path) -> int:
    """Write checkpoints to `directory/ID`, float models beside them, and `expect.json`.

    Returns: the number of checkpoints.
    Raises: CheckpointError: `directory` holds something, or cannot be written.
    """
    with NewDirectory(directory) as made:
        rows = [_write(case, made.root) for case in cases]
        content = {"format": 1, "checkpoints": rows}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (made.root / "expect.json").write_text(text + "\n", encoding="utf-8")
    return len(rows)


def _write(case: CheckpointCase, root: Path) -> dict[str, Any]:
    case.materialize(root / case.id)
    row = {**expectation(case), "path": case.id}
    if case.float_model is not None:
        name = f"float-{case.float_model['model']}-{case.float_model['dtype']}"
        if not (root / name).exists():
            with tempfile.TemporaryDirectory(prefix=".golden-", dir=root) as work:
                made = case.materialize_float(Path(work) / "float")
                assert made is not None
                made.rename(root / name)
        row["float_model"] = name
    return row


def expectation(case: CheckpointCase) -> dict[str, Any]:
    """What a judge must say of a case, as a member of `expect.json`."""
    row: dict[str, Any] = {
        "id": case.id,
        "group": group_of(case),
        "verdict": case.verdict,
        "comment": case.comment,
    }
    row |= {
        key: value
        for key, value in (("producer", case.producer), ("tp", case.tp))
        if value is not None
    }
    row["findings"] = [
        {
            "requirement": found.requirement,
            "level": requirements.load()[found.requirement].level,
            "scope": requirements.load()[found.requirement].scope.kind,
            "pattern": found.pattern,
            "count": found.count,
        }
        for found in sorted(case.expected, key=lambda e: (e.requirement, e.pattern))
    ]
    return row


@dataclass(frozen=True)
class Answer:
    """What a command did with one checkpoint: `problem` is None if that is right."""

    case: CheckpointCase
    did: str
    problem: str | None

    @property
    def passed(self) -> bool:
        return self.problem is None


def check(cases: Iterable[CheckpointCase], command: str, timeout: float = 60.0) -> Iterator[Answer]:
    """Yield an answer per case.

    Args:
        command: with `{checkpoint}`; split like a shell does, but run without one.
        timeout: seconds per case.

    Raises:
        ValueError: a command without the placeholder, or that cannot be split.
    """
    words = commands.split(command, (_PLACE,))
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
            directory = case.materialize(Path(temporary) / case.id)
            yield _answer(case, commands.fill(words, {_PLACE: directory}), timeout)


def _answer(case: CheckpointCase, command: Sequence[str], timeout: float) -> Answer:
    try:
        ended = commands.run(command, timeout)
    except ValueError as error:
        return Answer(case, "crashed", str(error))
    if ended.code is None:
        return Answer(case, "hung", f"no answer within {timeout:g} s")
    if ended.code < 0:
        return Answer(case, "crashed", ended.told(f"signal {-ended.code}"))
    did = "refuse" if ended.code else "accept"
    told_more = (case.tp, case.producer, case.float_model) != (None, None, None)
    if case.verdict in (did, "either") or (case.verdict == "refuse" and told_more):
        return Answer(case, did, None)
    problem = f"expected to {case.verdict}, did {did}: {case.comment}"
    return Answer(case, did, ended.told(problem) if did == "refuse" else problem)

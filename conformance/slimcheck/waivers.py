"""Waivers: findings that the user knows and accepts, each with its reason.

A file of lines `ID PATTERN REASON`; blank lines and lines that start with # say nothing. PATTERN is
a glob over tensor names, or over file names for a finding about files; `-` is any finding that
names no tensor. A waived finding is still shown, but does not count. A waiver that meets no finding
is reported, because the next reader would believe that it protects something.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from slimcheck.engine import Result, Status
from slimcheck.findings import Group
from slimspec import requirements
from slimspec.checkpoint.errors import clip

DIRECTORY = "-"
SIZE_LIMIT = 16 << 20


class WaiverError(ValueError):
    """A waiver file that cannot be used; the message is one line and names the place."""


@dataclass(frozen=True, slots=True)
class Waiver:
    requirement: str
    pattern: str
    reason: str
    line: int  # in its file, from 1


def read_waivers(path: str | Path) -> list[Waiver]:
    """Read a waiver file.

    Raises:
        WaiverError: it cannot be read, or a line has not three fields, an unknown id, or repeats
            another line.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(SIZE_LIMIT + 1)
        if len(raw) > SIZE_LIMIT:
            raise WaiverError(f"{path}: larger than {SIZE_LIMIT} bytes")
        text = raw.decode("utf-8")
    except OSError as error:
        raise WaiverError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise WaiverError(f"{path}: byte {error.start} is not UTF-8") from None
    waivers = list(_parse(path, text))
    seen: dict[tuple[str, str], int] = {}
    for waiver in waivers:
        first = seen.setdefault((waiver.requirement, waiver.pattern), waiver.line)
        if first != waiver.line:
            raise WaiverError(f"{path}:{waiver.line}: the same waiver as line {first}")
    return waivers


def _parse(path: Path, text: str) -> Iterator[Waiver]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.split(None, 2)
        if len(fields) < 3:
            raise WaiverError(
                f"{path}:{number}: found {clip(line.strip(), 80)!r}, expected ID PATTERN REASON"
            )
        key, pattern, reason = fields
        if key not in requirements.load():
            raise WaiverError(f"{path}:{number}: no requirement {clip(key, 40)!r}")
        yield Waiver(key, pattern, reason.strip(), number)


def apply_waivers(
    results: Iterable[Result], waivers: Sequence[Waiver], *, narrowed: bool = False
) -> list[Waiver]:
    """Move waived groups of `results` aside, in place.

    A group that a waiver covers in part is cut in two. A result all of whose groups are waived has
    status WAIVED and does not count.

    Args:
        narrowed: the run looked at some tensors only, so nothing can be said of the other ones.

    Returns:
        The waivers that met no finding although their requirement was judged.
    """
    used: set[Waiver] = set()
    checked: set[str] = set()
    by_id: dict[str, list[Waiver]] = {}
    for waiver in waivers:
        by_id.setdefault(waiver.requirement, []).append(waiver)
    for result in results:
        key = result.requirement.id
        if result.status is not Status.NOT_CHECKED:
            checked.add(key)
        if not result.groups or key not in by_id:
            continue
        for waiver in by_id[key]:
            left: list[Group] = []
            for group in result.groups:
                waived, rest = _cut(group, waiver.pattern)
                if waived is not None:
                    used.add(waiver)
                    result.waived.append((waived, waiver.reason))
                if rest is not None:
                    left.append(rest)
            result.groups = left
        if not result.groups:
            result.status, result.counts = Status.WAIVED, False
    return [w for w in waivers if w not in used and w.requirement in checked and not narrowed]


def _cut(group: Group, pattern: str) -> tuple[Group | None, Group | None]:
    """The part of a group that `pattern` covers, and the rest."""
    if not group.tensors:
        files = sorted(group.files)
        covers = pattern == DIRECTORY or (files and all(fnmatchcase(f, pattern) for f in files))
        return (group, None) if covers else (None, group)
    inside = [name for name in group.tensors if fnmatchcase(name, pattern)]
    if not inside:
        return None, group
    if len(inside) == len(group.tensors):
        return group, None
    outside = [name for name in group.tensors if not fnmatchcase(name, pattern)]
    return replace(group, tensors=inside), replace(group, tensors=outside)

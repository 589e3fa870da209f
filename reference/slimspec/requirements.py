"""The catalogue of requirements: `schemas/requirements/CHAPTER.json` read once.

A requirement says what must hold, for whom, what breaks otherwise and how to mend it. Checks are
bound to its id elsewhere; nothing here judges.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from types import MappingProxyType
from typing import Any

from slimspec.data import folder


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom a requirement speaks: the format, the writers of `profiles`, or engines.

    For a consumer scope `profiles` narrows the directories it looks at; () means all.
    """

    kind: str  # "format" | "producer" | "consumer"
    profiles: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    verdict: str = "will not load"  # what a violation means for these consumers


@dataclass(frozen=True, slots=True)
class Advice:
    """What breaks, and how to mend it, in both languages."""

    why: str
    fix: str
    why_zh: str
    fix_zh: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row of the catalogue; `types` () means that it is not about one quantization type.

    Attributes:
        kinds: kind of finding -> advice, where that differs from the requirement's own.
    """

    id: str
    level: str  # "MUST" | "SHOULD"
    phase: str  # "layout" | "values" | "numeric"
    scope: Scope
    types: tuple[str, ...]
    title: str
    why: str
    fix: str
    title_zh: str
    why_zh: str
    fix_zh: str
    source: tuple[str, ...]
    since: str
    disagreements: tuple[str, ...] = ()
    note: str | None = None
    kinds: Mapping[str, Advice] = field(default_factory=dict, hash=False)

    def advice(self, kind: str = "") -> Advice:
        """What is said of findings of `kind`."""
        return self.kinds.get(kind) or Advice(self.why, self.fix, self.why_zh, self.fix_zh)

    def own_advice(self) -> Iterator[tuple[Advice, list[str]]]:
        """Yield each advice that is not the requirement's own, and the kinds it is for."""
        for advice, kinds in groupby(self.kinds, key=self.kinds.__getitem__):
            yield advice, list(kinds)

    @property
    def chapter(self) -> str:
        """The part of the id before its number."""
        return self.id.rpartition("-")[0]


@cache
def load() -> Mapping[str, Requirement]:
    """Return id -> requirement, chapters in the order of their file names.

    Raises:
        ValueError: an id is used twice.
    """
    found: dict[str, Requirement] = {}
    for path in sorted((folder("schemas") / "requirements").glob("*.json")):
        for raw in json.loads(path.read_text(encoding="utf-8"))["requirements"]:
            if raw["id"] in found:
                raise ValueError(f"{path.name}: {raw['id']} is defined twice")
            found[raw["id"]] = _requirement(raw)
    return MappingProxyType(found)


@cache
def chapters() -> Mapping[str, str]:
    """Return chapter -> title, in the order of `load`; chapters of one file share its title."""
    titles: dict[str, str] = {}
    for path in sorted((folder("schemas") / "requirements").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for raw in content["requirements"]:
            titles.setdefault(raw["id"].rpartition("-")[0], content["title"])
    return MappingProxyType(titles)


def _requirement(raw: dict[str, Any]) -> Requirement:
    scope = raw["scope"]
    return Requirement(
        **{key: raw[key] for key in _TEXTS},
        scope=Scope(
            scope["kind"],
            tuple(scope.get("profiles", ())),
            tuple(scope.get("consumers", ())),
            scope.get("verdict", "will not load"),
        ),
        types=tuple(raw.get("types", ())),
        source=tuple(raw["source"]),
        disagreements=tuple(raw.get("disagreements", ())),
        note=raw.get("note"),
        kinds=MappingProxyType(
            {
                kind: Advice(*(own.get(key, raw[key]) for key in _ADVICE))
                for own in raw.get("kinds", ())
                for kind in own["kinds"]
            }
        ),
    )


_ADVICE = ("why", "fix", "why_zh", "fix_zh")


_TEXTS = (
    *("id", "level", "phase", "title", "why", "fix", "title_zh", "why_zh", "fix_zh", "since"),
)

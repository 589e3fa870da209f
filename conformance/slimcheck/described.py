"""What the rules of the description share."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from slimcheck.context import Context, ModuleClass
from slimcheck.findings import Finding
from slimspec.checkpoint import Description
from slimspec.checkpoint.errors import clip

MOST = 1000  # ways to be wrong that a rule tells apart
SYNTAX = frozenset({"json-syntax", "json-number"})  # defects of DESC-032, the others of DESC-001


def readable(ck: Context) -> Description | None:
    """The description, if there is one and its members could be read."""
    found = ck.checkpoint.description
    if found is None or (found.defects and not (found.metadata or found.labels or found.other)):
        return None
    return found


def has(description: Description, key: str) -> bool:
    """Whether a metadata member is there, whatever its value."""
    return description.get(key, description) is not description


def shown(value: Any) -> str:
    """A value of the description, on one short printable line."""
    return f"'{clip(value, 80)}'" if isinstance(value, str) else clip(value, 80)


def as_count(value: Any) -> int | None:
    """A JSON value that is an integer of at least 0 (true and false are none), else None."""
    return value if type(value) is int and value >= 0 else None


def said(ck: Context, requirement: str, kind: str, found: str, expected: str) -> Finding:
    """A finding about the description itself."""
    return Finding(requirement, kind, found, expected, file=ck.description_name)


def entries(
    ck: Context, requirement: str, kind: str, found: str, expected: str, names: tuple[str, ...]
) -> Finding:
    """A finding about entries of the description."""
    return Finding(requirement, kind, found, expected, names, ck.description_name)


def at_most(groups: Iterable[Iterable[str]], most: int = MOST) -> Iterator[tuple[str, ...]]:
    """Yield groups of names, after so many the rest as one: a hostile file has a million."""
    left = iter(groups)
    yield from map(tuple, islice(left, most))
    rest = tuple(chain.from_iterable(left))
    if rest:
        yield rest


def stored(cls: ModuleClass, suffix: str) -> tuple[str, ...]:
    """Names of the tensors of a class with that suffix, () if it has none."""
    return cls.names(suffix) if suffix in cls.tensors else ()

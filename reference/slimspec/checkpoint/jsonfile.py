"""Strict JSON for hostile files: what `json.load` hides is recorded, never raised.

Source: RFC 8259; formats.md DESC-001, DESC-032; users.md 1.3 (json.load keeps the last of two
duplicate keys without a word).
"""

import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import Defect, clip, defect

SIZE_LIMIT = 64 << 20  # the description of a model of 1e12 weights is about 20 MB
DEPTH_LIMIT = 64
MEMBER_LIMIT = 2_000_000  # a small file of empty lists would otherwise fill the memory
_NESTED = (dict, list)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A member name that one object holds more than once, with all its values in file order."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class JsonFile:
    """The value of a JSON file (None when unreadable), duplicate members and defects."""

    path: Path
    name: str
    value: Any
    duplicates: tuple[Duplicate, ...]
    defects: tuple[Defect, ...]


class JsonError(ValueError):
    """The text is not strict JSON; carries the defect code."""

    def __init__(self, code: str, found: str, expected: str) -> None:
        super().__init__(found)
        self.code, self.found, self.expected = code, found, expected


def read_json(path: str | Path, *, limit: int = SIZE_LIMIT, name: str | None = None) -> JsonFile:
    """Read the strict JSON file at `path`; problems become defects under the file name `name`."""
    path = Path(path)
    name = path.name if name is None else name
    try:
        value, duplicates = loads(_read(path, limit))
        _check_depth(value)
    except JsonError as error:
        return JsonFile(
            path, name, None, (), (defect(error.code, name, error.found, error.expected),)
        )
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
        return JsonFile(
            path, name, None, (), (defect("unreadable", name, found, "a readable file"),)
        )
    defects = tuple(
        defect(
            "json-duplicate-key",
            name,
            f"member '{clip(d.key, 120)}' occurs {len(d.values)} times with values "
            + ", ".join(clip(v, 40) for v in d.values[:3]),
            "each member once",
        )
        for d in duplicates
    )
    return JsonFile(path, name, value, duplicates, defects)


def loads(raw: bytes) -> tuple[Any, tuple[Duplicate, ...]]:
    """Parse strict JSON bytes.

    Returns:
        The value and the duplicate members.

    Raises:
        JsonError: too many members, not UTF-8 without BOM, not JSON, NaN or Infinity, deeper than
            the parser can go, a lone surrogate.
    """
    members = _count(raw, b",[{")
    if members > MEMBER_LIMIT:
        raise JsonError("json-size", f"about {members} members", f"at most {MEMBER_LIMIT}")
    text = _decode(raw)
    duplicates: list[Duplicate] = []
    try:
        value = _parse(text)
        if not _holds_all(value, raw):
            value = _parse(text, _collector(duplicates))
    except RecursionError:
        raise JsonError(
            "json-depth", "nested too deeply", f"at most {DEPTH_LIMIT} levels"
        ) from None
    except json.JSONDecodeError as error:
        raise _explain(text, error) from None
    except JsonError:
        raise
    except ValueError:  # an integer of more digits than Python converts
        raise JsonError("json-number", "an integer of thousands of digits", "64 bits") from None
    if "\\" in text and ("\\ud" in text or "\\uD" in text):  # one character is found faster
        _refuse_surrogates(value)
    return value, tuple(duplicates)


def _read(path: Path, limit: int) -> bytes:
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise JsonError("not-a-file", "not a regular file", "a regular file")
    if info.st_size > limit:
        raise JsonError("json-size", f"{info.st_size} bytes", f"at most {limit} bytes")
    with path.open("rb") as stream:
        raw = stream.read(limit + 1)
    if not raw:
        raise JsonError("empty-file", "the file is empty", "a JSON object")
    if raw.startswith(b"version https://git-lfs"):
        raise JsonError("lfs-pointer", "a git-LFS pointer, not the file", "run `git lfs pull`")
    return raw


def _decode(raw: bytes) -> str:
    if raw.startswith(b"\xef\xbb\xbf"):
        raise JsonError("json-encoding", "starts with a byte order mark", "UTF-8 without BOM")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is not UTF-8"
        raise JsonError("json-encoding", found, "UTF-8 without BOM") from None


def _parse(text: str, collect: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    return json.loads(
        text, object_pairs_hook=collect, parse_constant=_refuse_constant, parse_float=_finite
    )


def _count(raw: bytes, characters: bytes) -> int:
    """How many of some characters there are; NumPy is faster than bytes.count where it is many."""
    codes = np.frombuffer(raw, np.uint8)
    return sum(int(np.count_nonzero(codes == character)) for character in characters)


def _holds_all(value: Any, raw: bytes) -> bool:
    """Whether no member was lost to a later one of its name, as far as counting tells.

    Every object has its brace and every member its colon, names and strings may have more: where
    the numbers are equal, nothing is missing. Counting costs a tenth of collecting all pairs.
    """
    objects = members = 0
    nodes = [value] if isinstance(value, dict) else []
    while nodes:
        objects += len(nodes)
        members += sum(map(len, nodes))
        nodes = [member for node in nodes for member in node.values() if type(member) is dict]
    return objects == _count(raw, b"{") and members == _count(raw, b":")


def _collector(
    duplicates: list[Duplicate],
) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            values: dict[str, list[Any]] = {}
            for key, value in pairs:
                values.setdefault(key, []).append(value)
            duplicates.extend(Duplicate(k, tuple(v)) for k, v in values.items() if len(v) > 1)
        return members

    return collect


def _refuse_constant(name: str) -> Any:
    raise JsonError("json-number", f"the constant {name}", "finite numbers (strict JSON)")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise JsonError("json-number", f"the number {clip(text, 40)}", "a finite number")
    return value


def _explain(text: str, error: json.JSONDecodeError) -> JsonError:
    before = text[: error.pos].rstrip()
    at = text[error.pos : error.pos + 2]
    reason = error.msg
    # CPython 3.13 points at the comma itself and older versions at what follows it.
    if (before.endswith(",") and at[:1] in ("}", "]")) or "trailing comma" in reason:
        reason = "trailing comma"
    elif at in ("//", "/*") or at[:1] == "#":
        reason = "a comment"
    found = f"line {error.lineno}:{error.colno}: {reason}"
    return JsonError("json-syntax", found, "strict JSON")


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, _NESTED) else []
    for _ in range(DEPTH_LIMIT):
        level = [
            member
            for node in level
            for member in (node.values() if isinstance(node, dict) else node)
            if isinstance(member, _NESTED)
        ]
        if not level:
            return
    raise JsonError("json-depth", "nested too deeply", f"at most {DEPTH_LIMIT} levels")


def _refuse_surrogates(value: Any) -> None:
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(node.keys())
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, str) and not node.isprintable():
            try:
                node.encode("utf-8")
            except UnicodeEncodeError:
                found = f"a lone surrogate in '{clip(node, 60)}'"
                raise JsonError("json-encoding", found, "Unicode text") from None

"""What strict parsers say of the files of a directory: the measure of a malformed checkpoint."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open


def refused(directory: Path) -> dict[str, str]:
    """Return path -> reason for every file that a strict parser of its format refuses.

    Formats: `*.safetensors` by the library of that name, `*.json` as RFC 8259 without a member
    that is named twice.
    """
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.suffix in _PARSERS:
            try:
                _PARSERS[path.suffix](path)
            except (ValueError, RecursionError, SafetensorError) as error:
                found[path.relative_to(directory).as_posix()] = str(error)
    return found


def _header(path: Path) -> None:
    with safe_open(path, "numpy") as opened:
        opened.keys()


def _json(path: Path) -> None:
    content = path.read_bytes().decode("utf-8")
    json.loads(content, object_pairs_hook=_members, parse_constant=_refuse)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_PARSERS = {".safetensors": _header, ".json": _json}

"""What can be wrong with files: a recorded `Defect`, or a `CheckpointError` where one must stop."""

from dataclasses import dataclass
from typing import Any

from slimspec.patterns import visible

_JSON_TYPES = {
    dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number",
    bool: "a boolean", type(None): "null",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Defect:
    """One problem found in a file; reading goes on.

    `code` is stable; `file` is the name inside the checkpoint directory; `message` is one line.
    """

    code: str
    file: str
    tensor: str | None
    found: str
    expected: str
    message: str


class CheckpointError(Exception):
    """The path, or the one tensor that was asked for, cannot be used; the text is one line."""


def defect(code: str, file: str, found: Any, expected: Any, *, tensor: str | None = None) -> Defect:
    """Build a `Defect` whose message is "file: tensor T: found F, expected E"."""
    shown, wanted = clip(found), clip(expected)
    where = f"tensor '{clip(tensor, 120)}': " if tensor is not None else ""
    message = f"{clip(file)}: {where}{shown}; expected {wanted}"
    return Defect(code, file, tensor, shown, wanted, message)


def clip(value: Any, limit: int = 200) -> str:
    """Show a hostile value on one printable line of at most `limit` characters."""
    text = value if isinstance(value, str) else _plain(value, limit)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return visible(text)


def json_type(value: Any) -> str:
    """Name the type of a JSON value, as a person would."""
    return _JSON_TYPES[type(value)]


def _plain(value: Any, limit: int) -> str:
    # str() of a huge int raises (the digits limit) and repr of a deep list may recurse.
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 512:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list | dict):
        try:
            return repr(value)[: limit + 1]
        except (RecursionError, ValueError):
            return f"{json_type(value)} of {len(value)} members"
    return repr(value)

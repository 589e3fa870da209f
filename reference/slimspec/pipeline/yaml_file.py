"""A YAML file as the values that JSON has; what YAML hides or makes endless is an error."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip

from .text_file import read_text_file

SIZE_LIMIT = 1 << 20  # bytes, some seconds
VALUE_LIMIT = 1_000_000  # what aliases stand for counts each time, so that none goes on for ever
_INTEGERS = 1 << 63
_ANY = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class _Loader(yaml.SafeLoader):
    """Refuses a member that is named twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, count in Counter(keys).most_common(1):
            if count > 1:
                raise ValueError(f"member {clip(name, 60)!r} is named twice")
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises: CheckpointError: it cannot be read, is no YAML, or has other values than JSON.
    """
    text = read_text_file(path, SIZE_LIMIT)
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, *_ANY) as error:  # those of explicit tags raise anything
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{clip(str(path))}: no YAML ({clip(reason, 160)})") from None
    _check(value, clip(str(path)))
    return value


def _check(value: Any, where: str) -> None:
    nodes, count = [value], 0
    while nodes:
        node = nodes.pop()
        count += 1
        if count > VALUE_LIMIT:
            raise CheckpointError(f"{where}: found more than {VALUE_LIMIT} values, or endless ones")
        if isinstance(node, dict):
            for key in node:
                if not isinstance(key, str):
                    raise CheckpointError(f"{where}: member {clip(key, 60)}: expected a text")
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
        elif not _is_plain(node):
            found = clip(node, 60) if isinstance(node, int | float) else type(node).__name__
            raise CheckpointError(f"{where}: found {found}, expected values that JSON has")


def _is_plain(value: Any) -> bool:
    if type(value) is int:
        return -_INTEGERS <= value < _INTEGERS
    return (
        value is None
        or type(value) in (str, bool)
        or (type(value) is float and math.isfinite(value))
    )


__all__ = ["read_yaml"]

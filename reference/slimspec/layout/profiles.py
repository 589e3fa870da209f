"""Producer profiles: who writes a directory, and the names that writer gives its files.

The one reader of `schemas/profiles.json`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from slimspec.data import folder
from slimspec.layout.model import LayoutError

_SHARD = re.compile(r"-(\d{5,18})-of-(\d{5,18})\.safetensors$")


@dataclass(frozen=True, slots=True)
class Profile:
    """One writer. A name is None where it writes no such file."""

    name: str
    title: str
    writer: str
    recognise: str
    formula: str | None  # "v0" | "v1"
    weights: str | None
    shards: str | None
    weights_pattern: str | None
    extra_pattern: str | None
    description: str | None
    index: str | None
    version: str | None
    part_gib: int | None
    companions: tuple[str, ...]
    note: str | None
    source: tuple[str, ...]

    def weights_file(self, quant_type: str, index: int | None = None, count: int = 0) -> str:
        """Return the name of the only weights file, or of shard `index` (from 1) of `count`."""
        template = self.weights if index is None else self.shards
        fields = {"index": f"{index or 0:05d}", "count": f"{count:05d}"}
        return self._fill(template, "weights file", quant_type, fields)

    def description_file(self, quant_type: str) -> str:
        """Return the name of the description."""
        return self._fill(self.description, "description", quant_type)

    def index_file(self, quant_type: str) -> str:
        """Return the name of the index beside the shards."""
        return self._fill(self.index, "index", quant_type)

    def owns(self, file_name: str) -> bool:
        """True if `file_name` is a weights file as this writer names them."""
        return self.weights_pattern is not None and bool(
            re.fullmatch(self.weights_pattern, file_name)
        )

    def tolerates(self, file_name: str) -> bool:
        """True if a safetensors file of that name may lie beside the weights."""
        return _named(self.extra_pattern, file_name)

    def _fill(
        self,
        template: str | None,
        what: str,
        quant_type: str,
        fields: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        if template is None:
            raise LayoutError(f"profile {self.name} has no {what} of its own")
        if not quant_type:  # nothing is quantized
            template = template.replace("_{type}", "")
        for key, value in {**fields, "type": quant_type.lower()}.items():
            template = template.replace("{" + key + "}", value)
        if "{" in template:
            raise LayoutError(f"profile {self.name}: {template} needs more than a type")
        return template


def _named(pattern: str | None, file_name: str) -> bool:
    return pattern is not None and re.fullmatch(pattern, file_name) is not None


def shard(file_name: str) -> tuple[int, int] | None:
    """Return (index, count) of "…-00002-of-00005.safetensors", None for an unsharded name."""
    hit = _SHARD.search(file_name)
    return (int(hit[1]), int(hit[2])) if hit else None


@cache
def _data() -> dict[str, Any]:
    return json.loads((folder("schemas") / "profiles.json").read_text(encoding="utf-8"))


@cache
def _table() -> Mapping[str, Profile]:
    rows = (
        Profile(
            **{key: raw[key] for key in raw if key not in ("companions", "note", "source")},
            companions=tuple(raw.get("companions", ())),
            note=raw.get("note"),
            source=tuple(raw["source"]),
        )
        for raw in _data()["profiles"]
    )
    return MappingProxyType({row.name: row for row in rows})


def names() -> tuple[str, ...]:
    """Return the names of all profiles."""
    return tuple(_table())


def profile(name: str) -> Profile:
    """Return one profile, e.g. profile("A1").

    Raises:
        LayoutError: there is none of that name.
    """
    try:
        return _table()[name]
    except KeyError:
        raise LayoutError(f"no producer profile {name!r}: one of {', '.join(names())}") from None


def is_description(file_name: str) -> bool:
    """True if a file of that name is a description, legacy names included."""
    return bool(re.fullmatch(_data()["description_names"]["pattern"], file_name))

"""The vocabulary of a description: labels, metadata keys, keys and tensors without the other.

The one reader of `schemas/labels.json` and `schemas/description_keys.json`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from slimspec.data import folder
from slimspec.layout.labels import resolve


@dataclass(frozen=True, slots=True)
class Label:
    """One word of the vocabulary.

    `role` is type, attachment, derived, global, engine or placeholder; `quantize` the spelling in
    config.json where MindIE accepts the type; the label of the highest `rank` in an A1 directory
    becomes its model_quant_type.
    """

    label: str
    title: str
    role: str
    writers: tuple[str, ...]
    quantize: str | None = None
    rank: int | None = None
    compressible: bool = False
    note: str | None = None
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetadataKey:
    """One member of a description that speaks of the whole model."""

    key: str
    title: str
    value: Mapping[str, Any]  # types, enum, pattern, minimum, label
    presence: Mapping[str, str]  # profile -> always | sometimes | never
    readers: tuple[str, ...]
    note: str | None
    source: tuple[str, ...]


def _read(name: str) -> dict[str, Any]:
    return json.loads((folder("schemas") / name).read_text(encoding="utf-8"))


@cache
def labels() -> Mapping[str, Label]:
    """Return label -> what it means; labels of wrapped linears are not listed (see `is_label`)."""
    rows = _read("labels.json")["labels"]
    return MappingProxyType({row["label"]: Label(**_tuples(row)) for row in rows})


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}


def is_label(text: str) -> bool:
    """True if a tensor may carry the label: listed as one of tensors, or that of a wrapper."""
    known = labels().get(text)
    if known is None:
        found = resolve(text)
        return found is not None and found[0].kind == "linear"
    return known.role in ("type", "attachment", "derived", "engine")


@cache
def metadata_keys() -> Mapping[str, MetadataKey]:
    """Return key -> what it holds and who writes it."""
    rows = _read("description_keys.json")["metadata"]
    return MappingProxyType({row["key"]: _metadata_key(row) for row in rows})


def _metadata_key(row: dict[str, Any]) -> MetadataKey:
    return MetadataKey(
        key=row["key"],
        title=row["title"],
        value=MappingProxyType(row["value"]),
        presence=MappingProxyType(row["presence"]),
        readers=tuple(row.get("readers", ())),
        note=row.get("note"),
        source=tuple(row["source"]),
    )


@cache
def layer_keys() -> Mapping[str, Mapping[str, Any]]:
    """Return pattern -> value of the keys that name no tensor, e.g. "….self_attn.quant_type"."""
    rows = _read("description_keys.json")["layer_keys"]
    return MappingProxyType({row["pattern"]: MappingProxyType(row["value"]) for row in rows})


def layer_key(key: str) -> Mapping[str, Any] | None:
    """Return what may stand under `key` if that names no tensor, None for any other key."""
    return next((v for pattern, v in layer_keys().items() if re.fullmatch(pattern, key)), None)


@cache
def _undescribed() -> tuple[tuple[re.Pattern[str], frozenset[str]], ...]:
    rows = _read("description_keys.json")["undescribed"]
    return tuple((re.compile(row["pattern"]), frozenset(row["profiles"])) for row in rows)


def may_be_undescribed(tensor: str, profile: str) -> bool:
    """True if writers of `profile` are known to store `tensor` without an entry."""
    return any(profile in known and pattern.fullmatch(tensor) for pattern, known in _undescribed())

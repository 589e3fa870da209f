"""Linears that an engine fuses into one: the one reader of `schemas/packed_modules.json`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from slimspec.data import folder

if TYPE_CHECKING:
    from slimcheck.context import Context

EXPERTS = "experts"
LATENT = "fused_qkv_a_proj"


@dataclass(frozen=True, slots=True)
class Group:
    """Linears that are fused; `shards` are paths below the module that holds the fused one."""

    fused: str
    shards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Packing:
    """What an engine fuses in one model, and how many rows its q_proj has."""

    groups: tuple[Group, ...]
    query_heads: str = ""  # "with a gate", "by layer"


@dataclass(frozen=True, slots=True)
class Fused:
    """One fused linear of a checkpoint: the shards that are there, by path."""

    parent: str
    group: Group
    modules: Mapping[str, str]  # shard -> module


@cache
def _table() -> tuple[Packing, Mapping[str, Packing]]:
    raw = json.loads((folder("schemas") / "packed_modules.json").read_text(encoding="utf-8"))
    models = {
        name: Packing(_groups(item["groups"]), item.get("query_heads", ""))
        for item in raw["models"]
        for name in item["model_types"]
    }
    return Packing(_groups(raw["default"])), MappingProxyType(models)


def _groups(raw: list[dict[str, Any]]) -> tuple[Group, ...]:
    return tuple(Group(item["fused"], tuple(item["shards"])) for item in raw)


def packing(ck: "Context") -> Packing:
    """What is fused in the model of config.json; the usual groups where it is not listed."""
    usual, models = _table()
    model_type = ck.root.config.model_type if ck.root.config else None
    return models.get(model_type or "", usual)


def fused(ck: "Context") -> Iterator[Fused]:
    """Every fused linear of which at least one shard's weight is described.

    Inside of experts only the whole group of a layer's experts is fused.
    """
    by_leaf: dict[str, list[tuple[Group, str]]] = {}
    for group in packing(ck).groups:
        for shard in group.shards:
            by_leaf.setdefault(shard.rpartition(".")[2], []).append((group, shard))
    found: dict[tuple[str, Group], dict[str, str]] = {}
    for name in ck.labels:
        if not name.endswith(".weight"):
            continue
        module = name.removesuffix(".weight")
        for group, shard in by_leaf.get(module.rpartition(".")[2], ()):
            parent = module.removesuffix(shard).rstrip(".")
            at_shard = module == shard or module.endswith(f".{shard}")
            if at_shard and (group.fused == EXPERTS or f".{EXPERTS}." not in f"{parent}."):
                found.setdefault((parent, group), {})[shard] = module
    for (parent, group), modules in found.items():
        yield Fused(parent, group, {s: modules[s] for s in group.shards if s in modules})

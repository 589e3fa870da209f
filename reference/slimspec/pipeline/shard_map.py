"""How modules are split over ranks and named in parts: the one reader of `schemas/tp_maps`.

A map is reversible: `rename` and `restore` undo each other on every name that `rename` accepts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip
from slimspec.data import folder

Split = Literal["rows", "columns", "replicated"]
PLAIN = "hf"
_DOUBLE = ".module."  # infix of the second copy of a norm, formats.md 3.2 "Norms"


@dataclass(frozen=True, slots=True)
class ModuleRule:
    """How one kind of module is split; `by` names the count of config.json that stays whole."""

    name: str
    split: Split
    by: str | None = None
    from_rows: int = 0


@dataclass(frozen=True, slots=True)
class ShardMap:
    """One consumer's rules for one family of models; a module is known by its last component."""

    name: str
    consumer: str
    model_types: frozenset[str]
    modules: Mapping[str, ModuleRule]
    fuse: Mapping[str, tuple[str, ...]]  # fused name -> names of its members, in order
    pairs: tuple[tuple[str, str], ...]
    double_norm: tuple[str, str] | None  # names of the plain and of the second copy of a norm

    def rule(self, module: str) -> ModuleRule | None:
        """Return the rule of a module, None if the map has none for it."""
        return self.modules.get(last(module))

    def member_of(self, module: str) -> str | None:
        """Return the fused name of a module's group, None if it stays alone."""
        return next((name for name, of in self.fuse.items() if last(module) in of), None)

    def rename(self, tensor: str, double: bool = False) -> str:
        """Return the name in the part; `double`: its norm is stored twice.

        Raises:
            CheckpointError: the name could not be told from another one afterwards.
        """
        renamed = tensor
        if double and self.double_norm:
            renamed = _rename_double(renamed, *self.double_norm)
        for old, new in self.pairs:
            renamed = renamed.replace(old, new, 1)
        if self.restore(renamed) != tensor:
            raise CheckpointError(
                f"tensor {clip(tensor, 120)!r}: the names of {self.name} do not tell it from "
                f"{clip(self.restore(renamed), 120)!r}"
            )
        return renamed

    def restore(self, renamed: str) -> str:
        """Return the name in the float model."""
        name = renamed
        for old, new in reversed(self.pairs):
            name = name.replace(new, old, 1)
        if self.double_norm:
            plain, module = (f".{word}." for word in self.double_norm)
            name = name.replace(plain, ".", 1).replace(module, _DOUBLE, 1)
        return name

    def recognises(self, tensor: str) -> bool:
        """True if a name of a part can only come from this map."""
        module, _, _ = tensor.rpartition(".")
        return last(module) in self.fuse or any(new in tensor for _, new in self.pairs)


def _rename_double(tensor: str, plain: str, module: str) -> str:
    if _DOUBLE in tensor:
        return tensor.replace(_DOUBLE, f".{module}.", 1)
    norm, _, suffix = tensor.rpartition(".")
    return f"{norm}.{plain}.{suffix}"


def last(module: str) -> str:
    """Return the last component of a module's name."""
    return module.rpartition(".")[2]


@cache
def shard_maps() -> Mapping[str, ShardMap]:
    """Return name -> map."""
    files = sorted((folder("schemas") / "tp_maps").glob("*.json"))
    maps = (_read(json.loads(path.read_text(encoding="utf-8"))) for path in files)
    return MappingProxyType({found.name: found for found in maps})


def row_parallel(module: str) -> bool:
    """True for a linear that engines split along k, so that ranks add up its outputs."""
    rule = shard_maps()[PLAIN].rule(module)
    return rule is not None and rule.split == "columns"


def consumers() -> list[str]:
    """Return what `names` may be: the plain names first, then the engines."""
    return sorted(
        {found.consumer for found in shard_maps().values()}, key=lambda c: (c != PLAIN, c)
    )


def choose_map(consumer: str, model_type: str | None) -> ShardMap:
    """Return the map of a consumer for a model.

    Raises:
        CheckpointError: it has none for this model_type.
    """
    own = [found for found in shard_maps().values() if found.consumer == consumer]
    for found in own:
        if not found.model_types or model_type in found.model_types:
            return found
    known = ", ".join(sorted(word for found in own for word in found.model_types))
    stated = f"found {clip(model_type, 60)!r}" if model_type else "config.json states none"
    raise CheckpointError(f"names of {consumer}: model_type: {stated}, expected one of {known}")


def _read(raw: dict[str, Any]) -> ShardMap:
    modules = {
        item["name"]: ModuleRule(
            item["name"], item["split"], item.get("by"), item.get("from_rows", 0)
        )
        for item in raw["modules"]
    }
    double = raw.get("double_norm")
    return ShardMap(
        name=raw["name"],
        consumer=raw["consumer"],
        model_types=frozenset(raw["model_types"]),
        modules=MappingProxyType(modules),
        fuse=MappingProxyType({item["name"]: tuple(item["of"]) for item in raw.get("fuse", [])}),
        pairs=tuple((old, new) for old, new in raw.get("rename", [])),
        double_norm=(double["plain"], double["module"]) if double else None,
    )

"""What a layout rule sees of one directory: headers and JSON, with its modules in classes.

A checkpoint of a hundred thousand tensors has a few dozen kinds of module. Modules whose tensors
have the same suffixes, dtypes, shapes and labels form one `ModuleClass`; a layout rule looks at
each class once and speaks for all its members.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import eq
from typing import TYPE_CHECKING, Any

from slimcheck.labels import types_of_label
from slimcheck.layouts import Problem, contradictions, problems
from slimspec import layout
from slimspec.layout.beside import SHARD, is_norm_copy

if TYPE_CHECKING:
    from slimcheck.packed import Fused
    from slimspec.checkpoint import Checkpoint


_NUMBERED = re.compile(r"(?:^|\.)\d+(?:\.|$)", re.ASCII)
REDUCE = frozenset({"gather_scale", "reduce_scale"})  # communication quantization
ROTATIONS = frozenset(layout.load("rotation").rules("A1"))


@dataclass(frozen=True, slots=True)
class Spec:
    """The header's word on one tensor of a class."""

    dtype: str  # safetensors tag: "I8", "BF16", …
    shape: tuple[int, ...]
    label: str | None  # the description's word; None = not described


@dataclass(slots=True)
class ModuleClass:
    """Modules that look the same: one label, one set of tensors."""

    label: str | None  # of the `.weight`; None = no weight, not described, or a norm's copy
    tensors: Mapping[str, Spec]  # by suffix
    members: list[str] = field(default_factory=list)  # module prefixes

    def names(self, suffix: str) -> tuple[str, ...]:
        return tuple(join(member, suffix) for member in self.members)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {suffix: spec.shape for suffix, spec in self.tensors.items()}


def join(module: str, suffix: str) -> str:
    return f"{module}.{suffix}" if module else suffix


@dataclass
class Context:
    """One directory under judgement.

    Attributes:
        checkpoint: the directory (for a part: the sub-directory).
        root: where config.json and the tokenizer lie (for a part: the parent).
        where: "whole", "root" (of parts, holds no weights) or "part".
        profile: producer profile whose expectations apply.
        consumers: engines named on the command line.
        tp: tensor-parallel size named on the command line, or None.
    """

    checkpoint: "Checkpoint"
    root: "Checkpoint"
    where: str
    profile: str
    prefix: str = ""
    consumers: tuple[str, ...] = ()
    tp: int | None = None
    fingerprints: dict[str, bytes] = field(default_factory=dict)  # of the weights of modules

    @cached_property
    def model_dtype(self) -> str | None:
        """Dtype D of the float model: what the norm weights show, else what config.json states.

        An edited `torch_dtype` does not change what the producer computed with (CFG-008).
        """
        stored = self.checkpoint.norm_dtypes
        for tag, _ in stored.most_common():
            if tag in ("F16", "BF16", "F32"):
                return tag
        return self.root.model_dtype

    def metadata(self, key: str) -> Any:
        """A metadata member of the description, or None."""
        description = self.checkpoint.description
        return description.get(key) if description else None

    @property
    def description_name(self) -> str:
        """Relative path of the description file ("" where there is none)."""
        description = self.checkpoint.description
        return self.prefix + description.name if description else ""

    def optional_tensors(self) -> Iterator[tuple[str, str]]:
        """(tensor, path) of every file that the description's `optional` member names."""
        optional = self.metadata("optional")
        quarot = optional.get("quarot") if isinstance(optional, dict) else None
        rotations = quarot.get("rotation_map") if isinstance(quarot, dict) else None
        for tensor, path in rotations.items() if isinstance(rotations, dict) else ():
            if isinstance(path, str):
                yield tensor, path

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Tensor name -> label, as described (non-string values and metadata left out)."""
        description = self.checkpoint.description
        return description.labels if description else {}

    @cached_property
    def types(self) -> frozenset[str]:
        """Layout types and wrappers that occur: by label, by metadata, by name (norms)."""
        found = {"norm"}.union(
            *(types_of_label(label, self.profile) for label in set(self.labels.values()))
        )
        if self.metadata("kv_cache_type") or self.metadata("kv_quant_type"):
            found.add("C8")
        if self.metadata("fa_quant_type") or any(is_layer_type(name) for name in self.labels):
            found.add("FAQuant")
        for name, tensors in (("reduce", REDUCE), ("rotation", ROTATIONS)):
            if any(not tensors.isdisjoint(cls.tensors) for cls in self.classes):
                found.add(name)
        numbered = (cls for cls in self.classes if any(map(str.isdecimal, cls.tensors)))
        per_rank = (member for cls in numbered for member in cls.members)
        if self.sharded or any(member.endswith(".reduce_scale") for member in per_rank):
            found.add("reduce")
        return frozenset(found)

    @cached_property
    def sharded(self) -> frozenset[str]:
        """Linears that are also stored cut over ranks, with their scales there."""
        members = (m for cls in self.classes for m in cls.members if ".tp_list." in m)
        return frozenset(shard[1] for shard in map(SHARD.fullmatch, members) if shard)

    @cached_property
    def readable(self) -> bool:
        """Whether there are weights and each file's header was read.

        Otherwise a tensor that was not seen may well be there: DIR-003 and IDX-001 say so, and
        rules about absent tensors keep silent.
        """
        shards = self.checkpoint.shards
        return bool(shards) and all(shard.entries or not shard.defects for shard in shards)

    @cached_property
    def paths(self) -> list[str]:
        """Paths of the files of weights, in the order of the table."""
        return [f"{self.checkpoint.path}/{name}" for name in self.checkpoint.table.files]

    @cached_property
    def classes(self) -> list[ModuleClass]:
        looks, modules = self._looks()
        classes: dict[tuple[tuple[int, ...], bool], ModuleClass] = {}
        for module, found in modules.items():
            found.sort()
            key = (tuple(found), is_norm_copy(module, self.profile))
            known = classes.get(key)
            if known is None:
                tensors = dict(sorted((looks[i] for i in reversed(found)), key=_suffix))
                weight = None if key[1] else tensors.get("weight")
                known = classes[key] = ModuleClass(weight.label if weight else None, tensors)
            known.members.append(module)
        return list(classes.values())

    def _looks(self) -> tuple[list[tuple[str, Spec]], dict[str, list[int]]]:
        """Every (suffix, spec) that occurs, and by module the positions in it of its tensors.

        There are a few dozen looks and perhaps a million tensors: a module is some small integers.
        """
        table, labels = self.checkpoint.table, self.labels
        known: dict[tuple[str, int, int, str | None], int] = {}
        modules: dict[str, list[int]] = {}
        codes, shape_ids = table.dtype_codes.tolist(), table.shape_ids.tolist()
        for row, name in table.firsts():
            module, _, suffix = name.rpartition(".")
            look = known.setdefault(
                (suffix, codes[row], shape_ids[row], labels.get(name)), len(known)
            )
            if module in modules:
                modules[module].append(look)
            else:
                modules[module] = [look]
        tags, shapes = table.dtype_tags, table.shapes
        looks = [(s, Spec(tags[code], shapes[shape], label)) for s, code, shape, label in known]
        return looks, modules

    @cached_property
    def class_of(self) -> Mapping[str, ModuleClass]:
        """Module -> its class."""
        return {member: cls for cls in self.classes for member in cls.members}

    @cached_property
    def outside(self) -> list[str]:
        """Modules in no numbered list of others: embedding, final norm, head, …"""
        return [module for module in self.class_of if not _NUMBERED.search(module)]

    @cached_property
    def full_indexes(self) -> frozenset[str]:
        """Names of the indexes that list each tensor once, in its file, and no other: most do."""
        table = self.checkpoint.table
        files = [table.files[file] for file in table.file_ids.tolist()]
        return frozenset(
            index.name
            for index in self.checkpoint.indexes
            if len(index.weight_map) == len(table)
            and all(map(eq, map(index.weight_map.get, table.names), files))
        )

    @cached_property
    def fused(self) -> "list[Fused]":
        """The linears that an engine fuses into one."""
        from slimcheck.packed import fused

        return list(fused(self))

    @cached_property
    def problems(self) -> list[Problem]:
        """Everything in which a class contradicts the layout of its label."""
        return list(problems(self))

    @cached_property
    def contradictions(self) -> Mapping[int, str]:
        """By id of a class: the tensor with which no arithmetic of its type is defined."""
        return contradictions(self.problems, self.profile)

    def of(self, *types: str) -> Iterator[ModuleClass]:
        """Classes whose weight is of one of `types` (layout types or wrappers)."""
        for cls in self.classes:
            if not types_of_label(cls.label, self.profile).isdisjoint(types):
                yield cls

    def file_of(self, tensor: str) -> str:
        """Relative path of the file that holds `tensor` ("" if none does)."""
        table = self.checkpoint.table
        row = table.find(tensor)
        return self.prefix + table.file(row) if row is not None else ""

    def one_file(self, tensors: Sequence[str]) -> str:
        """The file that holds all of `tensors`; "" if there is no such one."""
        files = {self.file_of(tensor) for tensor in tensors}
        return files.pop() if len(files) == 1 else ""


def is_layer_type(name: str) -> bool:
    """Whether a key of the description types a layer (`X.quant_type`) and names no tensor."""
    return name.endswith(".quant_type")


def _suffix(item: tuple[str, Spec]) -> str:
    return item[0]

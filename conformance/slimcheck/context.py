"""What a layout rule sees of one directory: headers and JSON, with its modules in classes.

A checkpoint of a hundred thousand tensors has a few dozen kinds of module. Modules whose tensors
have the same suffixes, dtypes, shapes and labels form one `ModuleClass`; a layout rule looks at
each class once and speaks for all its members.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slimspec import layout

if TYPE_CHECKING:
    from slimspec.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Spec:
    """The header's word on one tensor of a class."""

    dtype: str  # safetensors tag: "I8", "BF16", …
    shape: tuple[int, ...]
    label: str | None  # the description's word; None = not described


@dataclass(slots=True)
class ModuleClass:
    """Modules that look the same: one label, one set of tensors."""

    label: str | None  # of the `.weight`; None = no weight, or not described
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

    @property
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
        """Base labels that occur in the description."""
        bases = (layout.base_label(label) for label in set(self.labels.values()))
        return frozenset(base for base in bases if base is not None)

    @cached_property
    def classes(self) -> list[ModuleClass]:
        table = self.checkpoint.table
        modules: dict[str, list[tuple[str, Spec]]] = {}
        labels = self.labels
        for row, name in enumerate(table.names):
            module, _, suffix = name.rpartition(".")
            spec = Spec(table.dtype(row), table.shape(row), labels.get(name))
            modules.setdefault(module, []).append((suffix, spec))
        classes: dict[tuple[tuple[str, Spec], ...], ModuleClass] = {}
        for module, found in modules.items():
            found.sort(key=_suffix)
            key = tuple(found)
            known = classes.get(key)
            if known is None:
                tensors = dict(key)
                weight = tensors.get("weight")
                known = classes[key] = ModuleClass(weight.label if weight else None, tensors)
            known.members.append(module)
        return list(classes.values())

    def of(self, *types: str) -> Iterator[ModuleClass]:
        """Classes whose weight's base label is one of `types`."""
        for cls in self.classes:
            if cls.label is not None and layout.base_label(cls.label) in types:
                yield cls

    def file_of(self, tensor: str) -> str:
        """Relative path of the file that holds `tensor` ("" if none does)."""
        table = self.checkpoint.table
        row = table.find(tensor)
        return self.prefix + table.file(row) if row is not None else ""


def _suffix(item: tuple[str, Spec]) -> str:
    return item[0]

"""What the modules of a class have in common at value level: all that headers tell of them.

A directory has a hundred thousand modules of some dozens of kinds; what can be asked of the kind is
not asked of each module. Where the members lie, and what they take, is made for all at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context, ModuleClass, join
from slimcheck.kept import kept
from slimcheck.labels import types_of_label
from slimcheck.layouts import rules_of
from slimcheck.values.forms import TELLING, Form, form_of
from slimcheck.values.integers import can_be_read
from slimcheck.values.words import EXPONENT, Words
from slimspec import layout
from slimspec.checkpoint.dtypes import BITS
from slimspec.schemes.int4 import AXES

_WORDS = frozenset({*EXPONENT, "U8"})
_LEAST_ROWS = 2  # what has one row may have one scale, which is no scale of rows
# bytes of memory for a byte of a tensor while rules look at it: what is unpacked or widened
_COST = {"F16": 1, "BF16": 1, "F32": 1}
_UNPACKED = 8  # two codes a byte beside an unsummed scale_bias, in float32
_OTHER = 8


class Kind:
    """The modules of a class.

    Attributes:
        context: the directory.
        cls: label, dtypes and shapes of their tensors.
        base_label: the type whose layout the label follows; None for an unknown label, or for none.
        packed: whether a byte of the weight holds two int4 codes.
        form: how the weight holds integers; None if it is no int8 matrix.
        lead: suffix of the tensor by whose place in the files modules are ordered.
    """

    def __init__(self, context: Context, cls: ModuleClass) -> None:
        self.context = context
        self.cls = cls
        self.base_label = layout.base_label(cls.label, context.profile) if cls.label else None
        rules = rules_of(cls.label, context.profile) if cls.label else None
        rule = rules.get("weight") if rules else None
        packing = rule.packing if rule else ()
        self.packed = not AXES.keys().isdisjoint(packing)
        told = map(cls.tensors.get, TELLING)
        self.form: Form | None = form_of(packing if self.packed else (), *told)
        self.lead = "weight" if "weight" in cls.tensors else next(iter(cls.tensors))

    @kept
    def types(self) -> frozenset[str]:
        """The layout type and the wrapper on it."""
        return types_of_label(self.cls.label, self.context.profile)

    @kept
    def guests(self) -> "Sequence[_Guest]":
        """The types that may stand beside it (C8, …)."""
        known = _guests(self.context.profile)
        return [guest for suffix in self.cls.tensors for guest in known.get(suffix, ())]

    @kept
    def counted_bytes(self) -> int:
        """Bytes of the weight, if kernels can count it as they read the file; or 0.

        Of a weight of floats, or of bytes that hold them, nothing but `words` is judged.
        """
        if self.form is not None:
            return self.form.nbytes if can_be_read(self.form) else 0
        spec = self.cls.tensors.get("weight")
        if spec is None or len(spec.shape) != 2 or spec.dtype not in _WORDS:
            return 0
        size = self.stated("weight")
        return size if Words(0, size, spec.dtype).can_be_read else 0

    def stated(self, suffix: str) -> int:
        """Bytes of a tensor by its dtype and shape."""
        spec = self.cls.tensors[suffix]
        return prod(spec.shape) * BITS[spec.dtype] // 8

    @kept
    def has_rows_only(self) -> bool:
        """Whether all its tensors have a row for each row of the weight."""
        shape = self.cls.tensors["weight"].shape if "weight" in self.cls.tensors else ()
        if (
            len(shape) != 2
            or shape[0] < _LEAST_ROWS
            or (self.form is None and not self.counted_bytes)
        ):
            return False
        rows = (self.form.shape if self.form else shape)[0], shape[0]
        return all(spec.shape and spec.shape[0] in rows for spec in self.cls.tensors.values())

    @kept
    def spans(self) -> NDArray[np.int64]:
        """[members, tensors, 3]: the number of the file, where the bytes begin and end there."""
        table, members = self.context.checkpoint.table, self.cls.members
        rows = np.array(
            [table.index(join(m, suffix)) for m in members for suffix in self.cls.tensors], np.int64
        ).reshape(len(members), len(self.cls.tensors))
        return np.stack([table.file_ids[rows], table.begin[rows], table.end[rows]], axis=2)

    @kept
    def sizes(self) -> list[int]:
        """By member: stored bytes of all its tensors."""
        return [int(size) for size in self._stored.sum(axis=1)]

    @kept
    def memory(self) -> list[int]:
        """By member: bytes of memory that its tensors take while rules look at them."""
        costs = [self._cost(suffix, spec.dtype) for suffix, spec in self.cls.tensors.items()]
        return [int(size) for size in self._stored @ np.array(costs, np.int64)]

    @property
    def _stored(self) -> NDArray[np.int64]:
        return np.maximum(self.spans[:, :, 2] - self.spans[:, :, 1], 0)

    def _cost(self, suffix: str, dtype: str) -> int:
        if suffix == "weight":
            if self.form is not None:
                return _UNPACKED if self.cls.shapes.get("scale_bias") == self.form.shape else 0
            if self.counted_bytes:
                return 0
        return _COST.get(dtype, _OTHER)


@dataclass(frozen=True, slots=True)
class _Guest:
    """A tensor of a type that is no linear."""

    type: str
    host: str  # how the name of its module ends: ".fa_q", ".k_proj", "norm" or ""


@cache
def _guests(profile: str) -> Mapping[str, Sequence[_Guest]]:
    """Suffix -> the types whose tensors end so."""
    found: dict[str, list[_Guest]] = {}
    for name in layout.types():
        described = layout.load(name)
        if described.kind == "linear" or profile not in described.profiles:
            continue
        for full in described.rules(profile):
            host, _, suffix = full.rpartition(".")
            end = "norm" if described.host == "norm" else ""
            found.setdefault(suffix, []).append(_Guest(name, f"{end}.{host}" if host else end))
    return found

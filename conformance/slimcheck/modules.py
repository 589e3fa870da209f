"""What a value rule sees: one module, its tensor bytes read on demand, each once.

Modules come in the order in which their weights lie in the files, so that reading them all is one
sequential pass; what a module has read is dropped with it, so memory holds one module.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context, ModuleClass, join
from slimcheck.kept import kept
from slimcheck.labels import types_of_label
from slimcheck.layouts import rules_of
from slimcheck.scan_stats import FloatStats, IntegerStats, float_stats, integer_stats
from slimspec import layout
from slimspec.checkpoint import CheckpointError
from slimspec.layout import TensorRule
from slimspec.numeric.deq_word import decode_deq_scale
from slimspec.pack import unpack_int4
from slimspec.schemes.int4 import AXES, packing_of

Stats = TypeVar("Stats")
_MAPPED = 256 << 20  # bytes; mapped pages count as memory of the process
_WIDENED = frozenset({"F16", "BF16", "F32", "I8"})


class Module:
    """One module at value level.

    Attributes:
        name: prefix of its tensors.
        cls: its header-level class (label, dtypes, shapes).
    """

    def __init__(self, context: Context, cls: ModuleClass, name: str) -> None:
        self._context = context
        self.cls = cls
        self.name = name
        self._arrays: dict[str, NDArray[Any]] = {}
        self._numbers: dict[str, NDArray[np.float32]] = {}
        self._floats: dict[str, FloatStats] = {}

    def __contains__(self, suffix: str) -> bool:
        return suffix in self.cls.tensors

    @property
    def label(self) -> str | None:
        return self.cls.label

    @property
    def base_label(self) -> str | None:
        return layout.base_label(self.cls.label, self._context.profile) if self.cls.label else None

    @kept
    def types(self) -> frozenset[str]:
        """Its layout type, the wrapper on it, and the types of what stands beside it (C8, …)."""
        own = types_of_label(self.cls.label, self._context.profile)
        hosts = _guests(self._context.profile)
        beside = [guest for suffix in self.cls.tensors for guest in hosts.get(suffix, ())]
        if not beside:
            return own
        parent, _, last = f".{self.name}".rpartition(".")
        place = f"{parent}.{{i}}" if last.isdecimal() else f".{self.name}"  # tp_list.{i}
        return own | {guest.type for guest in beside if place.endswith(guest.host)}

    @property
    def lead(self) -> str:
        """Suffix of the tensor by whose place in the files modules are ordered."""
        return "weight" if "weight" in self.cls.tensors else next(iter(self.cls.tensors))

    @property
    def home(self) -> str:
        """Relative path of the file that holds its lead."""
        return self.file(self.lead)

    def sizes(self) -> Iterator[tuple[str, str, int]]:
        """(suffix, dtype, stored bytes) of each of its tensors."""
        table = self._context.checkpoint.table
        for suffix, spec in self.cls.tensors.items():
            row = table.index(self.tensor(suffix))
            yield suffix, spec.dtype, max(int(table.end[row] - table.begin[row]), 0)

    @property
    def nbytes(self) -> int:
        """Stored bytes of all its tensors."""
        return sum(size for _, _, size in self.sizes())

    def extent(self) -> tuple[Path, int, int]:
        """File of its lead, where its bytes begin there, and their number."""
        table = self._context.checkpoint.table
        row = table.index(self.tensor(self.lead))
        begin, end = int(table.begin[row]), int(table.end[row])
        return self._context.checkpoint.path / table.file(row), begin, end - begin

    @property
    def packed(self) -> bool:
        """Whether its weight holds two int4 codes in a byte."""
        rule = self._weight_rule
        return rule is not None and not AXES.keys().isdisjoint(rule.packing)

    def tensor(self, suffix: str) -> str:
        """Full name of one of its tensors."""
        return join(self.name, suffix)

    def file(self, suffix: str) -> str:
        return self._context.file_of(self.tensor(suffix))

    def array(self, suffix: str) -> NDArray[Any]:
        """The tensor as a read-only array (shape and dtype as in the header).

        Raises:
            slimspec.checkpoint.CheckpointError: the bytes cannot be read.
            KeyError: the module has no such tensor.
        """
        if suffix not in self._arrays:
            if suffix not in self.cls.tensors:
                raise KeyError(suffix)
            self._arrays[suffix] = self._context.checkpoint.tensor(self.tensor(suffix))
        return self._arrays[suffix]

    def numbers(self, suffix: str) -> NDArray[np.float32] | None:
        """The tensor as float32, widened without loss, read-only; None if of no such dtype.

        NaN loses its payload: a signalling one would make later arithmetic warn.
        """
        spec = self.cls.tensors.get(suffix)
        if spec is None or spec.dtype not in _WIDENED:
            return None
        if suffix not in self._numbers:
            with np.errstate(invalid="ignore"):
                found = self.array(suffix).astype(np.float32)
            none = np.isnan(found)
            if none.any():
                found[none] = np.float32(np.nan)
            found.flags.writeable = False
            self._numbers[suffix] = found
        return self._numbers[suffix]

    @kept
    def codes(self) -> NDArray[np.int8] | None:
        """int8 [n, k]: the integers of the weight; None if it is no int8 matrix.

        Where the layout puts two int4 codes in a byte they are taken apart, as weight_scale tells.
        """
        spec = self.cls.tensors.get("weight")
        if spec is None or spec.dtype != "I8" or len(spec.shape) != 2:
            return None
        stored, rule = self.array("weight"), self._weight_rule
        if rule is None or not self.packed:
            return stored
        if not self.cls.shapes.get("weight_scale"):
            return None
        return unpack_int4(stored, AXES[packing_of(rule, self.array("weight_scale"))])

    @property
    def _weight_rule(self) -> TensorRule | None:
        rules = rules_of(self.cls.label, self._context.profile) if self.cls.label else None
        return rules.get("weight") if rules else None

    @kept
    def integers(self) -> IntegerStats | None:
        """Statistics of `codes`; their blocks are those of the file where codes are stored so."""
        if self.codes is None:
            return None
        if self.codes.size != self.array("weight").size:  # packed
            return integer_stats(self.codes)
        codes, begin = self.codes, self.begin("weight")
        return self._read(lambda path: integer_stats(codes, begin, path), "weight")

    def floats(self, suffix: str) -> FloatStats:
        """Statistics of a tensor of dtype F16, BF16 or F32."""
        if suffix not in self._floats:
            dtype = self.cls.tensors[suffix].dtype
            values, begin = self.array(suffix), self.begin(suffix)
            self._floats[suffix] = self._read(
                lambda path: float_stats(values, dtype, begin, path), suffix
            )
        return self._floats[suffix]

    def _read(self, statistics: Callable[[Path | None], Stats], suffix: str) -> Stats:
        """Call with the file of a very large tensor, which is read in pieces.

        Raises: CheckpointError if it cannot be read.
        """
        table = self._context.checkpoint.table
        row = table.index(self.tensor(suffix))
        file = table.file(row)
        large = table.end[row] - table.begin[row] > _MAPPED
        try:
            return statistics(self._context.checkpoint.path / file if large else None)
        except OSError as error:
            name = self.tensor(suffix)
            raise CheckpointError(f"{file}: tensor {name!r} cannot be read ({error})") from None

    def begin(self, suffix: str) -> int:
        """Where the bytes of a tensor begin in its file."""
        table = self._context.checkpoint.table
        return int(table.begin[table.index(self.tensor(suffix))])

    def release(self) -> None:
        """Let go of everything that was read."""
        for read in (self._arrays, self._numbers, self._floats):
            read.clear()
        for name in ("codes", "integers", "zero_rows", "deq_scale"):
            self.__dict__.pop(name, None)

    @property
    def row_sum(self) -> NDArray[np.int64] | None:
        """int64 [n]: sum of each row of `codes`."""
        return self.integers.row_sum if self.integers else None

    @property
    def row_max(self) -> NDArray[np.int64] | None:
        """int64 [n]: largest integer of each row of `codes` (-128 for an empty row)."""
        return self.integers.row_max if self.integers else None

    @property
    def row_min(self) -> NDArray[np.int64] | None:
        """int64 [n]: smallest integer of each row of `codes` (127 for an empty row)."""
        return self.integers.row_min if self.integers else None

    @kept
    def zero_rows(self) -> NDArray[np.bool_] | None:
        """bool [n]: rows of `codes` that hold nothing but zeros."""
        if self.row_max is None or self.row_min is None:
            return None
        return (self.row_max <= 0) & (self.row_min >= 0)

    @kept
    def deq_scale(self) -> NDArray[np.float32] | None:
        """float32: deq_scale decoded by bits; None if absent or in neither of its dtypes."""
        spec = self.cls.tensors.get("deq_scale")
        if spec is None or spec.dtype not in ("I64", "F32"):
            return None
        stored = self.array("deq_scale")
        return decode_deq_scale(stored) if spec.dtype == "I64" else stored


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


def modules(context: Context) -> Iterator[Module]:
    """Every module of the directory, in file order of its first tensor."""
    table = context.checkpoint.table
    placed: list[tuple[int, int, str, Module]] = []
    for cls in context.classes:
        for member in cls.members:
            module = Module(context, cls, member)
            row = table.index(module.tensor(module.lead))
            placed.append((int(table.file_ids[row]), int(table.begin[row]), member, module))
    placed.sort(key=lambda item: item[:3])
    return (module for *_, module in placed)

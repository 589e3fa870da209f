"""What a value rule sees: one module, its tensor bytes read on demand, each once.

Modules come in the order in which their weights lie in the files, so that reading them all is one
sequential pass; what a module has read is dropped with it, so memory holds one module.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context, ModuleClass, join
from slimcheck.kept import kept
from slimcheck.labels import types_of_label
from slimcheck.layouts import rules_of
from slimcheck.values.blocks import Blocks
from slimcheck.values.forms import TELLING, Form, form_of
from slimcheck.values.integers import (
    Groups,
    Integers,
    IntegerStats,
    Matrix,
    integer_stats,
    lot_stats,
)
from slimcheck.values.words import EXPONENT, Words, WordStats, word_lot, word_stats
from slimspec import layout
from slimspec.checkpoint.dtypes import numpy_dtype
from slimspec.layout import TensorRule
from slimspec.numeric.deq_word import decode_deq_scale
from slimspec.numeric.jit import jit_pays
from slimspec.pack import unpack_int4
from slimspec.schemes.int4 import AXES

_WIDENED = frozenset({"F16", "BF16", "F32", "I8"})
_WORDS = frozenset({*EXPONENT, "U8"})


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
        self._raw: dict[str, NDArray[np.uint8]] = {}
        self._arrays: dict[str, NDArray[Any]] = {}
        self._numbers: dict[str, NDArray[np.float32]] = {}
        self._between: dict[str, tuple[float, float]] = {}
        self._words: dict[str, WordStats] = {}

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

    @kept
    def places(self) -> dict[str, tuple[str, int, int]]:
        """By suffix: the path of the file, and where the bytes begin and end there."""
        table, paths, found = self._context.checkpoint.table, self._context.paths, {}
        for suffix in self.cls.tensors:
            row = table.index(self.tensor(suffix))
            path = paths[table.file_ids[row]]
            found[suffix] = path, int(table.begin[row]), int(table.end[row])
        return found

    @property
    def nbytes(self) -> int:
        """Stored bytes of all its tensors."""
        return sum(max(end - begin, 0) for _, begin, end in self.places.values())

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

    def hold(self, suffix: str, raw: NDArray[np.uint8]) -> None:
        """Take the bytes of a tensor, read already."""
        self._raw[suffix] = raw

    def know(self, stats: IntegerStats | WordStats) -> None:
        """Take `integers`, or `words` of the weight, known already."""
        if isinstance(stats, WordStats):
            self._words["weight"] = stats
        else:
            self.__dict__["integers"] = stats

    def array(self, suffix: str) -> NDArray[Any]:
        """The tensor as a read-only array (shape and dtype as in the header).

        Raises:
            slimspec.checkpoint.CheckpointError: the bytes cannot be read.
            KeyError: the module has no such tensor.
        """
        found = self._arrays.get(suffix)
        if found is None:
            found = self._held(suffix)
            self._arrays[suffix] = found = self._read(suffix) if found is None else found
        return found

    def _held(self, suffix: str) -> NDArray[Any] | None:
        """A tensor of which the bytes are here; None if they are not, or not all."""
        spec, raw = self.cls.tensors[suffix], self._raw.get(suffix)
        dtype = numpy_dtype(spec.dtype)
        if raw is None or not dtype or raw.size != dtype.itemsize * prod(spec.shape):
            return None
        found = raw.view(dtype).reshape(spec.shape)
        if not found.flags.aligned:
            found = found.copy()
            found.flags.writeable = False
        return found

    def _read(self, suffix: str) -> NDArray[Any]:
        return self._context.checkpoint.tensor(self.tensor(suffix))

    def numbers(self, suffix: str) -> NDArray[np.float32] | None:
        """The tensor as float32, widened without loss, read-only; None if of no such dtype.

        NaN loses its payload: a signalling one would make later arithmetic warn.
        """
        spec = self.cls.tensors.get(suffix)
        if spec is None or spec.dtype not in _WIDENED:
            return None
        known = self._numbers.get(suffix)
        if known is None:
            # arithmetic on an array of no dimension makes a scalar
            known = np.asarray(_widened(self.array(suffix), spec.dtype))
            between = np.nan, np.nan
            with np.errstate(invalid="ignore"):
                if known.size:
                    between = float(known.min()), float(known.max())
                if between[0] != between[0]:
                    known = np.asarray(np.where(np.isnan(known), np.float32(np.nan), known))
            known.flags.writeable = False
            self._numbers[suffix], self._between[suffix] = known, between
        return known

    def between(self, suffix: str) -> tuple[float, float]:
        """Smallest and largest of `numbers`; NaN if one is, or if there are none."""
        return (np.nan, np.nan) if self.numbers(suffix) is None else self._between[suffix]

    @property
    def has_offsets(self) -> bool:
        """Whether it has a weight_offset of numbers of which some are not 0."""
        offset = self.numbers("weight_offset")
        return offset is not None and offset.size > 0 and self.between("weight_offset") != (0, 0)

    @kept
    def codes(self) -> NDArray[np.int8] | None:
        """int8 [n, k]: the integers of the weight; None if it is no int8 matrix.

        Where the layout puts two int4 codes in a byte they are taken apart, as weight_scale tells.
        `integers` tells most of them without that.
        """
        form = self.form
        if form is None:
            return None
        stored = self.array("weight")
        return stored if form.axis is None else unpack_int4(stored, form.axis)

    @kept
    def form(self) -> Form | None:
        """How its weight holds integers; None if it is no int8 matrix."""
        rule = self._weight_rule
        packing = rule.packing if rule is not None and self.packed else ()
        return form_of(packing, *map(self.cls.tensors.get, TELLING))

    @property
    def _weight_rule(self) -> TensorRule | None:
        rules = rules_of(self.cls.label, self._context.profile) if self.cls.label else None
        return rules.get("weight") if rules else None

    @kept
    def integers(self) -> IntegerStats | None:
        """Statistics of `codes` by groups; their blocks are those of the file."""
        matrix = self._matrix
        if matrix is None:
            return None
        if self.matrix is not None and jit_pays(matrix.nbytes):
            with suppress(OSError), open(self.places["weight"][0], "rb") as stream:
                found = lot_stats(stream.fileno(), [matrix])
                if found:
                    return found[0]
        return integer_stats(self.array("weight").reshape(-1).view(np.uint8), matrix)

    @property
    def matrix(self) -> Matrix | None:
        """The integers of its weight, if kernels can count them as they read the file."""
        matrix = self._matrix
        if matrix is None or not matrix.can_be_read:
            return None
        _, begin, end = self.places["weight"]
        return matrix if matrix.nbytes == end - begin else None

    @kept
    def _matrix(self) -> Matrix | None:
        form = self.form
        if form is None:
            return None
        return Matrix(self.begin("weight"), form.shape, form.axis, form.groups, form.chunks)

    @property
    def blocks(self) -> Blocks:
        """The blocks of its weight where they lie in the file."""
        return self.integers.blocks if self.integers is not None else self.words("weight").blocks

    @property
    def read_as_words(self) -> Words | None:
        """Its weight [n, k], if that holds no integers, and the kernel can look at it in its file.

        Of a weight of floats, or of bytes that hold them, nothing but these statistics is judged.
        """
        spec = self.cls.tensors.get("weight")
        if spec is None or len(spec.shape) != 2 or spec.dtype not in _WORDS or self.form:
            return None
        _, begin, end = self.places["weight"]
        words = Words(begin, end - begin, spec.dtype)
        return words if words.can_be_read else None

    def words(self, suffix: str) -> WordStats:
        """Statistics of a tensor that holds no integers [n, k]."""
        known = self._words.get(suffix)
        if known is None:
            path, begin, end = self.places[suffix]
            words = Words(begin, end - begin, self.cls.tensors[suffix].dtype)
            found = None
            if words.can_be_read and jit_pays(words.nbytes):
                with suppress(OSError), open(path, "rb") as stream:
                    found = word_lot(stream.fileno(), [words])
            known = found[0] if found else word_stats(self.array(suffix), words)
            self._words[suffix] = known
        return known

    def begin(self, suffix: str) -> int:
        """Where the bytes of a tensor begin in its file."""
        table = self._context.checkpoint.table
        return int(table.begin[table.index(self.tensor(suffix))])

    def release(self) -> None:
        """Let go of everything that was read."""
        for read in (self._raw, self._arrays, self._numbers, self._between, self._words):
            read.clear()
        for name in ("codes", "integers", "rows", "deq_scale", "places"):
            self.__dict__.pop(name, None)

    @kept
    def rows(self) -> Groups | None:
        """Smallest and largest integers of the rows of `codes`, [n, 1]."""
        return self.integers.over(1) if self.integers else None

    @property
    def row_sum(self) -> Integers | None:
        """int64 [n]: sum of each row of `codes`; None also where no tensor is made of them."""
        sums = self.integers.sums if self.integers else None
        return None if sums is None else sums.sum(axis=1, dtype=np.int64)

    @property
    def row_min(self) -> NDArray[np.int8] | None:
        """int8 [n]: smallest integer of each row of `codes` (127 for an empty row)."""
        return self.rows.least[:, 0] if self.rows else None

    @property
    def row_max(self) -> NDArray[np.int8] | None:
        """int8 [n]: largest integer of each row of `codes` (-128 for an empty row)."""
        return self.rows.most[:, 0] if self.rows else None

    def idle(self, columns: int) -> NDArray[np.bool_] | None:
        """bool [n, columns]: groups of columns of `codes` that hold nothing but zeros.

        None if there are no codes, or they do not make so many groups.
        """
        found = self.integers.over(columns) if self.integers else None
        return found.idle if found else None

    @kept
    def deq_scale(self) -> NDArray[np.float32] | None:
        """float32: deq_scale decoded by bits; None if absent or in neither of its dtypes."""
        spec = self.cls.tensors.get("deq_scale")
        if spec is None or spec.dtype not in ("I64", "F32"):
            return None
        stored = self.array("deq_scale")
        return decode_deq_scale(stored) if spec.dtype == "I64" else stored


def _widened(x: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Float32 itself; bfloat16 by its bits, which are the upper half of a float32."""
    if dtype == "F32":
        return x
    if dtype == "BF16":
        words = x.view(np.uint16).astype(np.uint32)
        words <<= np.uint32(16)
        return words.view(np.float32)
    with np.errstate(invalid="ignore"):
        return x.astype(np.float32)


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

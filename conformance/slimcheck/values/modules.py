"""What a value rule sees: one module, its tensor bytes read on demand, each once.

Modules come in the order in which their weights lie in the files, so that reading them all is one
sequential pass; what a module has read is dropped with it, so memory holds one module.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context, join
from slimcheck.kept import kept
from slimcheck.values.blocks import Blocks
from slimcheck.values.forms import Form
from slimcheck.values.integers import (
    Groups,
    Integers,
    IntegerStats,
    Matrix,
    integer_stats,
    lot_stats,
)
from slimcheck.values.kinds import Kind
from slimcheck.values.words import Words, WordStats, word_lot, word_stats
from slimspec.checkpoint.dtypes import numpy_dtype
from slimspec.numeric.deq_word import decode_deq_scale
from slimspec.numeric.jit import jit_pays
from slimspec.pack import unpack_int4

_NUMBERS = frozenset({"F16", "BF16", "F32", "I8"})


class _Tensor:
    """What is known of a tensor by now."""

    __slots__ = ("array", "between", "numbers", "raw", "words")

    def __init__(self) -> None:
        self.raw: NDArray[np.uint8] | None = None
        self.array: NDArray[Any] | None = None
        self.numbers: NDArray[np.float32] | None = None
        self.between = np.nan, np.nan  # smallest and largest of the numbers
        self.words: WordStats | None = None


class Module:
    """One module at value level.

    Attributes:
        kind: what it has in common with others.
        cls: its header-level class (label, dtypes, shapes).
        name: prefix of its tensors.
        number: its place among the members of its class.
    """

    def __init__(self, kind: Kind, name: str, number: int = 0) -> None:
        self.kind = kind
        self.cls = kind.cls
        self.name = name
        self.number = number
        self._tensors: dict[str, _Tensor] = {}

    def __contains__(self, suffix: str) -> bool:
        return suffix in self.cls.tensors

    @property
    def label(self) -> str | None:
        return self.cls.label

    @property
    def base_label(self) -> str | None:
        return self.kind.base_label

    @property
    def types(self) -> frozenset[str]:
        """Its layout type, the wrapper on it, and the types of what stands beside it (C8, …)."""
        own, beside = self.kind.types, self.kind.guests
        if not beside:
            return own
        parent, _, last = f".{self.name}".rpartition(".")
        place = f"{parent}.{{i}}" if last.isdecimal() else f".{self.name}"  # tp_list.{i}
        return own | {guest.type for guest in beside if place.endswith(guest.host)}

    @property
    def home(self) -> str:
        """Relative path of the file that holds its lead."""
        return self.file(self.kind.lead)

    @kept
    def places(self) -> dict[str, tuple[str, int, int]]:
        """By suffix: the path of the file, and where the bytes begin and end there."""
        paths, spans = self.kind.context.paths, self.kind.spans[self.number].tolist()
        return {
            suffix: (paths[file], begin, end)
            for suffix, (file, begin, end) in zip(self.cls.tensors, spans, strict=True)
        }

    @property
    def nbytes(self) -> int:
        """Stored bytes of all its tensors."""
        return self.kind.sizes[self.number]

    @property
    def packed(self) -> bool:
        """Whether its weight holds two int4 codes in a byte."""
        return self.kind.packed

    def tensor(self, suffix: str) -> str:
        """Full name of one of its tensors."""
        return join(self.name, suffix)

    def file(self, suffix: str) -> str:
        return self.kind.context.file_of(self.tensor(suffix))

    def _of(self, suffix: str) -> _Tensor:
        found = self._tensors.get(suffix)
        if found is None:
            found = self._tensors[suffix] = _Tensor()
        return found

    def hold(self, suffix: str, raw: NDArray[np.uint8]) -> None:
        """Take the bytes of a tensor, read already."""
        self._of(suffix).raw = raw

    def know(self, stats: IntegerStats | WordStats) -> None:
        """Take `integers`, or `words` of the weight, known already."""
        if isinstance(stats, WordStats):
            self._of("weight").words = stats
        else:
            self.__dict__["integers"] = stats

    def array(self, suffix: str) -> NDArray[Any]:
        """The tensor as a read-only array (shape and dtype as in the header).

        Raises:
            slimspec.checkpoint.CheckpointError: the bytes cannot be read.
            KeyError: the module has no such tensor.
        """
        tensor = self._of(suffix)
        if tensor.array is None:
            found = self._held(suffix, tensor.raw)
            tensor.array = self._read(suffix) if found is None else found
        return tensor.array

    def _held(self, suffix: str, raw: NDArray[np.uint8] | None) -> NDArray[Any] | None:
        """A tensor of which the bytes are here; None if they are not, or not all."""
        spec = self.cls.tensors[suffix]
        dtype = numpy_dtype(spec.dtype)
        if raw is None or not dtype or raw.size != self.kind.stated(suffix):
            return None
        found = raw.view(dtype).reshape(spec.shape)
        if not found.flags.aligned:
            found = found.copy()
            found.flags.writeable = False
        return found

    def _read(self, suffix: str) -> NDArray[Any]:
        return self.kind.context.checkpoint.tensor(self.tensor(suffix))

    def numbers(self, suffix: str) -> NDArray[np.float32] | None:
        """The tensor as float32, widened without loss, read-only; None if of no such dtype.

        NaN loses its payload: a signalling one would make later arithmetic warn.
        """
        spec = self.cls.tensors.get(suffix)
        if spec is None or spec.dtype not in _NUMBERS:
            return None
        tensor = self._of(suffix)
        if tensor.numbers is None:
            # arithmetic on an array of no dimension makes a scalar
            known = np.asarray(_widened(self.array(suffix), spec.dtype))
            with np.errstate(invalid="ignore"):
                if known.size:
                    tensor.between = float(known.min()), float(known.max())
                if tensor.between[0] != tensor.between[0]:
                    known = np.asarray(np.where(np.isnan(known), np.float32(np.nan), known))
            known.flags.writeable = False
            tensor.numbers = known
        return tensor.numbers

    def between(self, suffix: str) -> tuple[float, float]:
        """Smallest and largest of `numbers`; NaN if one is, or if there are none."""
        return (np.nan, np.nan) if self.numbers(suffix) is None else self._of(suffix).between

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

    @property
    def form(self) -> Form | None:
        """How its weight holds integers; None if it is no int8 matrix."""
        return self.kind.form

    @property
    def counted(self) -> Matrix | Words | None:
        """Its weight, if kernels can count it as they read the file."""
        size, form = self.kind.counted_bytes, self.kind.form
        if not size:
            return None
        _, begin, end = self.places["weight"]
        if end - begin != size:
            return None
        return Matrix(begin, form) if form else Words(begin, size, self.cls.tensors["weight"].dtype)

    @kept
    def integers(self) -> IntegerStats | None:
        """Statistics of `codes` by groups; their blocks are those of the file."""
        form, counted = self.form, self.counted
        if form is None:
            return None
        path, begin, _ = self.places["weight"]
        if isinstance(counted, Matrix) and jit_pays(form.nbytes):
            with suppress(OSError), open(path, "rb") as stream:
                found = lot_stats(stream.fileno(), [counted])
                if found:
                    return found[0]
        flat = self.array("weight").reshape(-1).view(np.uint8)
        return integer_stats(flat, Matrix(begin, form))

    @property
    def blocks(self) -> Blocks:
        """The blocks of its weight where they lie in the file."""
        return self.integers.blocks if self.integers is not None else self.words("weight").blocks

    def words(self, suffix: str) -> WordStats:
        """Statistics of a tensor that holds no integers [n, k]."""
        tensor = self._of(suffix)
        if tensor.words is None:
            path, begin, end = self.places[suffix]
            words = Words(begin, end - begin, self.cls.tensors[suffix].dtype)
            found, whole = None, words.nbytes == self.kind.stated(suffix)
            if whole and words.can_be_read and jit_pays(words.nbytes):
                with suppress(OSError), open(path, "rb") as stream:
                    found = word_lot(stream.fileno(), [words])
            if found:
                tensor.words = found[0]
            elif whole and numpy_dtype(words.tag) is None:
                raw = self.kind.context.checkpoint.raw(self.tensor(suffix))
                tensor.words = word_stats(raw, words)
            else:
                tensor.words = word_stats(self.array(suffix), words)
        return tensor.words

    def release(self) -> None:
        """Let go of everything that was read."""
        self._tensors.clear()
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


def modules(context: Context) -> Iterator[Module]:
    """Every module of the directory, in file order of its first tensor."""
    placed: list[tuple[int, int, str, Module]] = []
    for cls in context.classes:
        kind = Kind(context, cls)
        leads = kind.spans[:, list(cls.tensors).index(kind.lead)].tolist()
        for number, (name, (file, begin, _)) in enumerate(zip(cls.members, leads, strict=True)):
            placed.append((file, begin, name, Module(kind, name, number)))
    placed.sort(key=lambda item: item[:3])
    return (module for *_, module in placed)

"""The tensor records of a safetensors header: names, dtypes, shapes, sizes, offsets.

Source: safetensors format (huggingface/safetensors README, src/tensor.rs); formats.md IDX-001;
users.md 1.2 row 115.
"""

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain, count
from operator import itemgetter, sub
from typing import Any, NamedTuple, overload

from .dtypes import BITS, CODES, TAGS
from .errors import Defect, clip, defect

RANK_LIMIT = 64  # NumPy cannot hold more axes
NAME_LIMIT = 1024
_INT64 = 1 << 63
_MEMBERS = {"dtype", "shape", "data_offsets"}


class Entry(NamedTuple):
    """One tensor as the header states it; `begin` and `end` are offsets in the file.

    Both are -1 where the stated offsets are unusable.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Entries(Sequence[Entry]):
    """The tensors of one file as columns (`codes` index into `dtypes.TAGS`); reads as `Entry`s."""

    __slots__ = ("begins", "codes", "ends", "names", "shapes")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.codes = bytearray()
        self.shapes: list[tuple[int, ...]] = []
        self.begins = array("q")
        self.ends = array("q")

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, i: int) -> Entry: ...
    @overload
    def __getitem__(self, i: slice) -> list[Entry]: ...
    def __getitem__(self, i: int | slice) -> Entry | list[Entry]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        tag = TAGS[self.codes[i]]
        return Entry(self.names[i], tag, self.shapes[i], self.begins[i], self.ends[i])


class RecordReader:
    """Turns the members of one header into entries and defects."""

    def __init__(self, file: str, file_size: int, data_start: int) -> None:
        self.defects: list[Defect] = []
        self.entries = Entries()
        self._file = file
        self._start = data_start
        self._room = file_size - data_start
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}

    def read(self, members: Mapping[str, Any], *, complete: bool) -> None:
        """Read all records and check that they cover the data.

        Args:
            members: tensor name -> record.
            complete: whether no member was lost before; otherwise gaps mean nothing.
        """
        lengths = set(map(len, members)) or {1}
        printable = all(map(str.isprintable, members))
        if not printable or not 0 < min(lengths) <= max(lengths) <= NAME_LIMIT:
            for name in members:
                self._note_name(name)
        if not self._take_all(members):
            for name, record in members.items():
                self._record(name, record)
        lost = {"header-record", "header-dtype", "header-shape", "offsets-range"}
        self._check_cover(complete=complete and lost.isdisjoint(d.code for d in self.defects))

    def _note(self, code: str, found: Any, expected: Any, tensor: str | None) -> None:
        self.defects.append(defect(code, self._file, found, expected, tensor=tensor))

    def _note_name(self, name: str) -> None:
        if not name:
            self._note("name-empty", "an empty tensor name", "a name", name)
        elif len(name) > NAME_LIMIT:
            found = f"a name of {len(name)} characters"
            self._note("name-length", found, f"at most {NAME_LIMIT}", name)
        if not name.isprintable():
            found = f"the name '{clip(name, 80)}' holds control characters"
            self._note("name-control-characters", found, "printable characters", name)

    def _take_all(self, members: Mapping[str, Any]) -> bool:
        """Take in all records at once if none has a fault; otherwise take none.

        It is `_record` by columns: headers have hundreds of thousands of records.
        """
        records = list(members.values())
        try:
            dtypes = list(map(itemgetter("dtype"), records))
            stated = list(map(itemgetter("shape"), records))
            offsets = list(map(itemgetter("data_offsets"), records))
            codes = bytes(map(CODES.__getitem__, dtypes))
            shapes = list(map(tuple, stated))
            numbers = list(chain.from_iterable(offsets))
        except (KeyError, TypeError):
            return False
        if not (
            {*map(type, stated), *map(type, offsets)} <= {list}
            and {*map(type, numbers), *map(type, chain.from_iterable(stated))} <= {int}
            and {*map(len, records)} <= {len(_MEMBERS)}
            and {*map(len, offsets)} <= {2}
        ):
            return False
        shapes = list(map(self._shapes.setdefault, shapes, shapes))
        elements = {shape: _elements(list(shape)) for shape in set(shapes)}
        begins, ends = numbers[::2], numbers[1::2]
        if numbers and not 0 <= min(numbers) <= max(numbers) <= self._room:
            return False
        for shape, dtype, size in zip(shapes, dtypes, map(sub, ends, begins), strict=True):
            count = elements[shape]
            if count is None or size * 8 != count * BITS[dtype]:
                return False
        entries, start = self.entries, self._start
        entries.names.extend(members)
        entries.codes.extend(codes)
        entries.shapes.extend(shapes)
        entries.begins.extend([start + begin for begin in begins])
        entries.ends.extend([start + end for end in ends])
        return True

    def _record(self, name: str, record: Any) -> None:
        if not isinstance(record, dict) or record.keys() != _MEMBERS:
            found = clip(record, 80)
            self._note("header-record", found, "members dtype, shape, data_offsets", name)
            return
        dtype, stated = record["dtype"], record["shape"]
        if not isinstance(dtype, str) or dtype not in BITS:
            self._note("header-dtype", f"dtype {clip(dtype, 60)}", "a safetensors dtype", name)
            return
        elements = _elements(stated)
        if elements is None:
            expected = f"up to {RANK_LIMIT} non-negative integers with a product below 2^63"
            self._note("header-shape", f"shape {clip(stated, 80)}", expected, name)
            return
        begin, end = self._offsets(record["data_offsets"], name)
        if begin >= 0 and (end - begin) * 8 != elements * BITS[dtype]:
            self._note_size(name, end - begin, dtype, stated, elements * BITS[dtype])
        shape = tuple(stated)
        entries = self.entries
        entries.names.append(name)
        entries.codes.append(CODES[dtype])
        entries.shapes.append(self._shapes.setdefault(shape, shape))
        entries.begins.append(begin)
        entries.ends.append(end)

    def _note_size(self, name: str, found: int, dtype: str, shape: list[int], bits: int) -> None:
        needed = f"{bits // 8} bytes" if bits % 8 == 0 else f"{bits} bits"
        expected = f"{needed} for {dtype} {shape}"
        self._note("size-mismatch", f"{found} bytes", expected, name)

    def _offsets(self, value: Any, name: str) -> tuple[int, int]:
        """Return absolute (begin, end), or (-1, -1) after noting a defect."""
        if isinstance(value, list) and len(value) == 2:
            begin, end = value
            if type(begin) is int and type(end) is int and 0 <= begin <= end <= self._room:
                return self._start + begin, self._start + end
        expected = f"[begin, end] with 0 <= begin <= end <= {self._room}, the size of the data"
        self._note("offsets-range", f"data_offsets {clip(value, 80)}", expected, name)
        return -1, -1

    def _check_cover(self, *, complete: bool) -> None:
        """Note overlaps and, when every record was readable, gaps and trailing bytes."""
        entries = self.entries
        begins, ends = entries.begins, entries.ends
        first, last = self._start, self._start + self._room
        if begins and (begins[0], ends[-1]) == (first, last) and begins[1:] == ends[:-1]:
            return  # one after the other in the order of the header
        position = self._start
        for begin, end, i in sorted(zip(entries.begins, entries.ends, count(), strict=False)):
            if begin == position:
                position = end
                continue
            if 0 <= begin < position:
                found = f"starts at {begin} inside the tensor before it, which ends at {position}"
                self._note("offsets-overlap", found, f"start {position}", entries.names[i])
            elif begin > position and complete:
                found = f"{begin - position} bytes before it belong to no tensor"
                self._note("offsets-gap", found, f"start {position}", entries.names[i])
            position = max(position, end)
        left = self._start + self._room - position
        if left and complete:
            found = f"{left} bytes after the last tensor"
            self._note("trailing-bytes", found, f"a file of {position} bytes", None)


def _elements(shape: Any) -> int | None:
    """Return the product of `shape`; None unless it is a list of sane dimensions."""
    if not isinstance(shape, list) or len(shape) > RANK_LIMIT:
        return None
    product = 1
    for dim in shape:
        if type(dim) is not int or not 0 <= dim < _INT64:
            return None
        product *= dim
    return product if product < _INT64 else None

"""The header of one safetensors file, parsed by ourselves: every lie in it is recorded.

File = 8-byte little-endian length N, N bytes of JSON, then the data. A tensor's `data_offsets`
count from data_start = 8 + N; together they must cover the data without gap or overlap.

Source: safetensors format (huggingface/safetensors README, src/tensor.rs); formats.md IDX-001;
users.md 1.2 rows 111 and 115, 1.3.
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .dtypes import BITS, CODES, TAGS
from .errors import Defect, clip, defect
from .foreign import recognise
from .jsonfile import Duplicate, JsonError, loads

HEADER_LIMIT = 100_000_000  # the safetensors library refuses more
RANK_LIMIT = 64  # NumPy cannot hold more axes
NAME_LIMIT = 1024
_INT64 = 1 << 63


class Entry(NamedTuple):
    """One tensor as the header states it; `begin` and `end` are offsets in the file.

    Both are -1 where the stated offsets are unusable.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(slots=True)
class Header:
    """What one file's header says, and what is wrong with it.

    `name` is the file's name inside the checkpoint. A tensor whose record is unreadable (dtype or
    shape) is missing in `entries` and named by a defect.
    """

    entries: list[Entry]
    metadata: dict[str, str] | None
    defects: list[Defect]
    file_size: int
    data_start: int
    path: Path
    name: str


def read_header(path: str | Path, *, name: str | None = None) -> Header:
    """Read the header at `path`; never raises on what the file holds.

    Args:
        path: the safetensors file.
        name: how defects call the file; its last path component by default.
    """
    path = Path(path)
    header = Header([], None, [], 0, 0, path, path.name if name is None else name)
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):  # opening a FIFO would wait for ever
            _note(header, "not-a-file", "not a regular file", "a regular file")
            return header
        header.file_size = info.st_size
        with path.open("rb") as stream:
            raw = _header_bytes(stream, header)
    except OSError as error:
        _note(header, "unreadable", f"cannot be read ({error.strerror})", "a readable file")
        return header
    if raw is not None:
        _parse(raw, header)
    return header


def _note(header: Header, code: str, found: Any, expected: Any, tensor: str | None = None) -> None:
    header.defects.append(defect(code, header.name, found, expected, tensor=tensor))


def _header_bytes(stream: BinaryIO, header: Header) -> bytes | None:
    """Return the N bytes of JSON, or note why they cannot be had."""
    size = header.file_size
    start = stream.read(512)
    length = int.from_bytes(start[:8], "little")
    plausible = size >= 8 and 0 < length <= min(size - 8, HEADER_LIMIT) and start[8:9] == b"{"
    if not plausible:
        foreign = recognise(start)
        if foreign is not None:
            _note(header, foreign.code, foreign.found, "a safetensors file")
        elif size < 8:
            _note(header, "header-too-short", f"{size} bytes", "at least 8 bytes")
        elif length > size - 8:
            found = f"header of {length} bytes in a file of {size}"
            _note(header, "header-length", found, f"at most {size - 8} bytes")
        elif length > HEADER_LIMIT:
            _note(header, "header-length", f"{length} bytes", f"at most {HEADER_LIMIT} bytes")
        else:
            _note(header, "header-json", f"starts with {start[8:16]!r}", "a JSON object")
        return None
    header.data_start = 8 + length
    stream.seek(8)
    raw = stream.read(length)
    if len(raw) != length:
        _note(header, "header-length", f"only {len(raw)} bytes could be read", f"{length} bytes")
        return None
    return raw


def _parse(raw: bytes, header: Header) -> None:
    try:
        value, duplicates = loads(raw)
    except JsonError as error:
        code = "header-json" if error.code == "json-syntax" else f"header-{error.code}"
        _note(header, code, f"header: {error.found}", error.expected)
        return
    _note_duplicates(duplicates, header)
    if "__metadata__" in value:
        _metadata(value.pop("__metadata__"), header)
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
    for name, record in value.items():
        entry = _entry(name, record, shapes, header)
        if entry is not None:
            header.entries.append(entry)
    _check_cover(header)


def _note_duplicates(duplicates: Iterable[Duplicate], header: Header) -> None:
    for duplicate in duplicates:
        found = f"member {clip(duplicate.key, 120)!r} occurs {len(duplicate.values)} times"
        _note(header, "header-duplicate-key", found, "each member once", duplicate.key)


def _metadata(value: Any, header: Header) -> None:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        header.metadata = value
    else:
        _note(
            header, "header-metadata", f"__metadata__ is {clip(value, 80)}", "an object of strings"
        )


def _entry(
    name: str, record: Any, shapes: dict[tuple[int, ...], tuple[int, ...]], header: Header
) -> Entry | None:
    _check_name(name, header)
    if not isinstance(record, dict):
        _note(header, "header-record", record, "an object with dtype, shape, data_offsets", name)
        return None
    if len(record) != 3 or record.keys() != {"dtype", "shape", "data_offsets"}:
        found = f"members {', '.join(sorted(clip(key, 40) for key in list(record)[:8]))}"
        _note(header, "header-record", found, "dtype, shape, data_offsets", name)
    dtype: Any = record.get("dtype")
    stated: Any = record.get("shape")
    if not isinstance(dtype, str) or dtype not in BITS:
        _note(header, "header-dtype", f"dtype {clip(dtype, 60)}", "a safetensors dtype", name)
        return None
    count = _elements(stated)
    if count is None:
        expected = f"up to {RANK_LIMIT} non-negative 64-bit integers"
        _note(header, "header-shape", f"shape {clip(stated, 80)}", expected, name)
        return None
    shape = shapes.setdefault(tuple(stated), tuple(stated))
    begin, end = _offsets(record.get("data_offsets"), header, name)
    bits = count * BITS[dtype]
    if begin >= 0 and (end - begin) * 8 != bits:
        needed = f"{bits // 8} bytes" if bits % 8 == 0 else f"{bits} bits"
        found = f"{end - begin} bytes"
        _note(header, "size-mismatch", found, f"{needed} for {dtype} {list(shape)}", name)
    return Entry(name, TAGS[CODES[dtype]], shape, begin, end)  # one string object per tag


def _check_name(name: str, header: Header) -> None:
    if not name:
        _note(header, "name-empty", "an empty tensor name", "a name", name)
    elif len(name) > NAME_LIMIT:
        found = f"a name of {len(name)} characters"
        _note(header, "name-length", found, f"at most {NAME_LIMIT}", name)
    if not name.isprintable():
        found = f"the name {clip(name, 80)!r} holds control characters"
        _note(header, "name-control-characters", found, "printable characters", name)


def _elements(shape: Any) -> int | None:
    """Return the product of `shape`; None unless it is a list of sane dimensions."""
    if not isinstance(shape, list) or len(shape) > RANK_LIMIT:
        return None
    count = 1
    for dim in shape:
        if type(dim) is not int or not 0 <= dim < _INT64:
            return None
        count *= dim
    return count if count < _INT64 else None


def _offsets(value: Any, header: Header, name: str) -> tuple[int, int]:
    """Return absolute (begin, end), or (-1, -1) after noting a defect."""
    room = header.file_size - header.data_start
    if (
        isinstance(value, list)
        and len(value) == 2
        and type(value[0]) is int
        and type(value[1]) is int
        and 0 <= value[0] <= value[1] <= room
    ):
        return header.data_start + value[0], header.data_start + value[1]
    expected = f"[begin, end] with 0 <= begin <= end <= {room}, the bytes after the header"
    _note(header, "offsets-range", f"data_offsets {clip(value, 80)}", expected, name)
    return -1, -1


def _check_cover(header: Header) -> None:
    """Note gaps, overlaps and bytes after the last tensor."""
    spans = sorted((e.begin, e.end, e.name) for e in header.entries if e.begin >= 0)
    position = header.data_start
    for begin, end, name in spans:
        if begin < position:
            found = f"starts at {begin} inside the tensor before it, which ends at {position}"
            _note(header, "offsets-overlap", found, f"start {position}", name)
        elif begin > position:
            found = f"{begin - position} bytes before it belong to no tensor"
            _note(header, "offsets-gap", found, f"start {position}", name)
        position = max(position, end)
    if position < header.file_size and not any(d.code == "offsets-range" for d in header.defects):
        found = f"{header.file_size - position} bytes after the last tensor"
        _note(header, "trailing-bytes", found, f"a file of {position} bytes")

"""The header of one safetensors file, parsed by ourselves: every lie in it is recorded.

File = 8-byte little-endian length N, N bytes of JSON, then the data. A tensor's `data_offsets`
count from data_start = 8 + N; together they must cover the data without gap or overlap.

Source: safetensors format (huggingface/safetensors README, src/tensor.rs); formats.md IDX-001;
users.md 1.2 rows 111 and 115, 1.3.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .errors import Defect, clip, defect
from .foreign import recognise
from .jsonfile import JsonError, loads
from .records import Entries, RecordReader

HEADER_LIMIT = 100_000_000  # the safetensors library refuses more


@dataclass(slots=True)
class Header:
    """What one file's header says, and what is wrong with it.

    `name` is the file's name inside the checkpoint. A tensor whose record is unreadable (dtype or
    shape) is missing in `entries` and named by a defect.
    """

    entries: Entries
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
    header = Header(Entries(), None, [], 0, 0, path, path.name if name is None else name)
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
        _note(header, "header-json", error.found, error.expected)
        return
    for duplicate in duplicates:
        key = duplicate.key
        found = f"member '{clip(key, 120)}' occurs {len(duplicate.values)} times"
        tensor = key if key in value else None
        _note(header, "header-duplicate-key", found, "each member once", tensor)
    if "__metadata__" in value:
        _metadata(value.pop("__metadata__"), header)
    reader = RecordReader(header.name, header.file_size, header.data_start)
    reader.read(value, complete=not duplicates)
    header.entries = reader.entries
    header.defects += reader.defects


def _metadata(value: Any, header: Header) -> None:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        header.metadata = value
    else:
        found = f"__metadata__ is {clip(value, 80)}"
        _note(header, "header-metadata", found, "an object of strings")

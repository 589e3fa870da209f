"""Write one safetensors file: stream the tensors in, put the header in front at the end.

The library sorts tensors by dtype (widest first, the order of `dtypes.BITS` reversed) and then by
name, packs them without gaps and pads the header with spaces to a multiple of 8; so each tensor
is aligned. We do the same: same tensors, same bytes as `safetensors.save_file`. Because the order
is known only when all tensors are, they are spooled first and copied into place by `close`.

Source: safetensors src/tensor.rs `prepare`; formats.md 1.2 (no `__metadata__` in producer files).
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .dtypes import BITS, CODES
from .errors import CheckpointError, clip

_BLOCK = 8 << 20


class Record(NamedTuple):
    """A tensor to be placed: name, dtype tag, shape, stored bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class ShardWriter:
    """Spools tensors beside the final file and assembles it."""

    def __init__(self, spool: Path, metadata: Mapping[str, str] | None = None) -> None:
        self.records: list[Record] = []
        self.nbytes = 0
        self._metadata = metadata
        self._starts: list[int] = []
        self._spool_path = spool
        self._spool: BinaryIO = spool.open("w+b")

    def append(
        self, name: str, dtype: str, shape: tuple[int, ...], chunks: Iterable[memoryview]
    ) -> None:
        """Stream the bytes of one tensor to disk.

        Raises:
            CheckpointError: the chunks are not as long as dtype and shape say.
        """
        size = 0
        for chunk in chunks:
            self._spool.write(chunk)
            size += chunk.nbytes
        expected = nbytes_of(dtype, shape)
        if size != expected:
            raise CheckpointError(
                f"tensor '{clip(name, 120)}': found {size} bytes, expected {expected} for "
                f"{dtype} {list(shape)}"
            )
        self.records.append(Record(name, dtype, shape, size))
        self._starts.append(self.nbytes)
        self.nbytes += size

    def close(self, path: Path) -> None:
        """Write the file at `path` and remove the spool."""
        order = sorted(range(len(self.records)), key=lambda i: storage_key(self.records[i]))
        with path.open("xb") as out:
            out.write(encode_header([self.records[i] for i in order], self._metadata))
            for i in order:
                self._spool.seek(self._starts[i])
                _copy(self._spool, out, self.records[i].nbytes)
        self.discard()

    def discard(self) -> None:
        """Remove the spool without writing anything."""
        self._spool.close()
        self._spool_path.unlink(missing_ok=True)


def storage_key(record: Record) -> tuple[int, str]:
    """The key by which the safetensors library orders the tensors of a file."""
    return -CODES[record.dtype], record.name


def encode_header(records: Iterable[Record], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the 8-byte length and the JSON header for tensors stored in the order given."""
    members: dict[str, object] = {}
    if metadata:
        members["__metadata__"] = dict(metadata)
    position = 0
    for record in records:
        end = position + record.nbytes
        offsets = [position, end]
        members[record.name] = {
            "dtype": record.dtype,
            "shape": list(record.shape),
            "data_offsets": offsets,
        }
        position = end
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def nbytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the stored size of a tensor in bytes."""
    bits = BITS[dtype]
    for dim in shape:
        bits *= dim
    return (bits + 7) // 8


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        block = source.read(min(size, _BLOCK))
        if not block:
            raise CheckpointError(f"{os.fspath(source.name)}: the spool was truncated")
        target.write(block)
        size -= len(block)

"""A small safetensors file held in memory, for patching."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Shard:
    """Tensors of one file: name -> (dtype tag, shape, bytes), in file order."""

    path: Path
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]]

    @classmethod
    def load(cls, path: Path) -> "Shard":
        """Read a valid file, or start an empty one where none exists."""
        if not path.exists():
            return cls(path, {})
        content = path.read_bytes()
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        tensors = {
            name: (
                entry["dtype"],
                tuple(entry["shape"]),
                content[8 + length :][slice(*entry["data_offsets"])],
            )
            for name, entry in sorted(header.items(), key=lambda kv: kv[1]["data_offsets"])
        }
        return cls(path, tensors)

    def put(self, name: str, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
        self.tensors[name] = (dtype, shape, data)

    def save(self) -> None:
        header: dict[str, Any] = {}
        offset = 0
        for name, (dtype, shape, data) in self.tensors.items():
            end = offset + len(data)
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        body = b"".join(data for _, _, data in self.tensors.values())
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(struct.pack("<Q", len(text)) + text + body)

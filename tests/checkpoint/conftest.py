"""Makers of small valid files, written by the safetensors library and by hand."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

Assemble = Callable[..., bytes]


def assemble_file(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    """Lay out length, header and data by the format's definition, without our writer."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def assemble() -> Assemble:
    return assemble_file


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """Return a maker of header records; the defaults describe 2x3 int8 in the first 6 bytes."""

    def make(**changes: Any) -> dict[str, Any]:
        return {"dtype": "I8", "shape": [2, 3], "data_offsets": [0, 6]} | changes

    return make


@pytest.fixture
def valid_bytes() -> bytes:
    """A file of the library with tensors of several dtypes, one empty and one 0-d."""
    return save(
        {
            "x.weight": np.arange(6, dtype=np.int8).reshape(2, 3),
            "x.weight_scale": np.ones((2, 1), dtype=np.float32),
            "x.deq_scale": np.arange(2, dtype=np.int64),
            "empty": np.zeros((0, 4), dtype=np.float16),
            "scalar": np.array(7, dtype=np.int32),
        }
    )


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Return a writer of files below tmp_path."""

    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write

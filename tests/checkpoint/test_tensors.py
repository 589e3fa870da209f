"""One tensor out of a directory: mapped or read, whole or refused in one line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from slimspec.checkpoint import CheckpointError, open_checkpoint, stored

Put = Callable[[str, bytes | str], Path]
PLAIN = save({"a.weight": np.ones((2, 2), np.float16)})


@pytest.mark.parametrize("map_from", [0, stored.MAP_FROM])
def test_tensors_are_read_only(
    put: Put, valid_bytes: bytes, monkeypatch: pytest.MonkeyPatch, map_from: int
) -> None:
    monkeypatch.setattr(stored, "MAP_FROM", map_from)
    checkpoint = open_checkpoint(put("m.safetensors", valid_bytes).parent)
    array = checkpoint.tensor("x.weight")
    assert (array.dtype, array.tolist()) == (np.int8, [[0, 1, 2], [3, 4, 5]])
    assert array.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    assert checkpoint.tensor("empty").shape == (0, 4)
    assert checkpoint.tensor("scalar").item() == 7
    assert checkpoint.raw("x.deq_scale").tobytes() == bytes(8) + b"\x01" + bytes(7)


def test_map_goes_with_its_last_view(
    put: Put, valid_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def maps() -> int:
        return Path("/proc/self/maps").read_text().count("m.safetensors")

    monkeypatch.setattr(stored, "MAP_FROM", 0)
    checkpoint = open_checkpoint(put("m.safetensors", valid_bytes).parent)
    array = checkpoint.tensor("x.weight")
    assert maps() == 1
    del array
    assert maps() == 0


def test_unaligned_tensor_is_read(put: Put, assemble: Any, record: Any) -> None:
    header = {"a": record(shape=[1], data_offsets=[0, 1]),
              "b": record(dtype="F32", shape=[], data_offsets=[1, 5])}  # fmt: skip
    raw = assemble(header, b"\x00" + np.float32(1.5).tobytes())
    checkpoint = open_checkpoint(put("m.safetensors", raw).parent)
    assert checkpoint.tensor("b").item() == 1.5
    assert checkpoint.tensor("b").shape == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_offsets": [0, 60]}, "outside the file"),
        ({"shape": [2, 4]}, "found 6 bytes, expected 8"),
        ({"shape": [2**31, 2**31]}, "found 6 bytes"),
        ({"dtype": "F4", "shape": [12]}, "dtype F4"),
    ],
)
def test_unusable_tensor_is_refused_in_one_line(
    put: Put, assemble: Any, record: Any, changes: dict[str, Any], message: str
) -> None:
    raw = assemble({"a": record(**changes)}, bytes(6))
    checkpoint = open_checkpoint(put("m.safetensors", raw).parent)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.tensor("a")
    assert "m.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_tensor_is_refused(put: Put) -> None:
    with pytest.raises(CheckpointError, match="'no' is in no file"):
        open_checkpoint(put("m.safetensors", PLAIN).parent).tensor("no")


@pytest.mark.parametrize("map_from", [0, stored.MAP_FROM])
def test_file_cut_after_opening_is_refused(
    put: Put, monkeypatch: pytest.MonkeyPatch, map_from: int
) -> None:
    monkeypatch.setattr(stored, "MAP_FROM", map_from)
    path = put("m.safetensors", PLAIN)
    checkpoint = open_checkpoint(path.parent)
    os.truncate(path, len(PLAIN) - 2)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.tensor("a.weight")

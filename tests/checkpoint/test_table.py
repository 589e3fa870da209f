from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from slimspec.checkpoint import TensorTable, open_checkpoint, read_header


@pytest.fixture
def table(tmp_path: Path) -> TensorTable:
    save_file({"a": np.zeros((2, 3), np.int8), "b": np.zeros(4, np.float32)}, tmp_path / "1.st")
    save_file({"b": np.zeros(4, np.float32), "c": np.zeros((2, 3), np.int16)}, tmp_path / "2.st")
    return TensorTable([read_header(tmp_path / name) for name in ("1.st", "2.st")])


def test_columns_hold_what_the_headers_say(table: TensorTable) -> None:
    assert table.names == ["b", "a", "b", "c"]  # the library sorts wide dtypes first
    assert [table.dtype(i) for i in range(4)] == ["F32", "I8", "F32", "I16"]
    assert [table.shape(i) for i in range(4)] == [(4,), (2, 3), (4,), (2, 3)]
    assert [table.file(i) for i in range(4)] == ["1.st", "1.st", "2.st", "2.st"]
    assert table.sizes.tolist() == [16, 6, 16, 12]
    assert table.nbytes == 50
    assert len(table.shapes) == 2


def test_columns_have_the_documented_dtypes(table: TensorTable) -> None:
    assert table.dtype_codes.dtype == np.uint8
    assert (table.file_ids.dtype, table.shape_ids.dtype) == (np.uint32, np.uint32)
    assert (table.begin.dtype, table.end.dtype) == (np.int64, np.int64)


def test_name_in_two_files_is_found_first_and_listed(table: TensorTable) -> None:
    assert table.index("b") == 0
    assert table.duplicates == {"b": (0, 1)}


def test_name_in_three_files_is_listed_with_all(tmp_path: Path) -> None:
    for name in "123":
        save_file({"a": np.zeros(1, np.int8)}, tmp_path / name)
    assert TensorTable([read_header(tmp_path / n) for n in "123"]).duplicates == {"a": (0, 1, 2)}


def test_unknown_name_is_none_or_a_key_error(table: TensorTable) -> None:
    assert table.find("d") is None
    assert "d" not in table
    assert "a" in table
    with pytest.raises(KeyError):
        table.index("d")


def test_rows_iterate_as_plain_values(table: TensorTable) -> None:
    rows = list(table)
    assert [row.name for row in rows] == table.names
    assert rows[1].end - rows[1].begin == 6
    assert type(rows[1].begin) is int


def test_storage_order_streams_each_file_forwards(table: TensorTable) -> None:
    order = table.in_storage_order()
    places = [(int(table.file_ids[i]), int(table.begin[i])) for i in order]
    assert places == sorted(places)


def test_table_of_no_files_is_empty() -> None:
    table = TensorTable([])
    assert (len(table), table.nbytes, table.duplicates) == (0, 0, {})
    assert table.in_storage_order().tolist() == []


@pytest.mark.parametrize("tag", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0"])
def test_narrow_floats_come_through_ml_dtypes(
    tmp_path: Path, assemble: Callable[..., bytes], record: Callable[..., dict[str, Any]], tag: str
) -> None:
    width = 2 if tag == "BF16" else 1
    data = np.arange(4 * width, dtype=np.uint8)
    header = {"a": record(dtype=tag, shape=[4], data_offsets=[0, 4 * width])}
    (tmp_path / "m.safetensors").write_bytes(assemble(header, data.tobytes()))
    array = open_checkpoint(tmp_path).tensor("a")
    assert array.dtype.itemsize == width
    assert array.dtype.kind != "f" or array.dtype.name.startswith(("bfloat", "float8"))
    assert array.view(np.uint8).tolist() == data.tolist()

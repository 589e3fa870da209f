import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slimspec.checkpoint import Header, read_header

Put = Callable[[str, bytes], Path]
Record = Callable[..., dict[str, Any]]


def codes(header: Header) -> list[str]:
    return [defect.code for defect in header.defects]


def test_file_of_the_library_has_no_defects(put: Put, valid_bytes: bytes) -> None:
    header = read_header(put("m.safetensors", valid_bytes))
    assert header.defects == []
    assert header.file_size == len(valid_bytes)
    assert header.data_start == 8 + struct.unpack("<Q", valid_bytes[:8])[0]
    found = {entry.name: (entry.dtype, entry.shape) for entry in header.entries}
    assert found["x.weight"] == ("I8", (2, 3))
    assert found["x.deq_scale"] == ("I64", (2,))
    assert found["empty"] == ("F16", (0, 4))
    assert found["scalar"][0] == "I32"


def test_entries_slice_and_count_like_a_list(put: Put, valid_bytes: bytes) -> None:
    entries = read_header(put("m.safetensors", valid_bytes)).entries
    assert len(entries) == 5
    assert entries[:2] == [entries[0], entries[1]]
    assert entries[-1] == list(entries)[4]


def test_metadata_is_kept_apart(put: Put, assemble: Any, record: Record) -> None:
    raw = assemble({"__metadata__": {"format": "pt"}, "a": record()}, bytes(6))
    header = read_header(put("m.safetensors", raw))
    assert (header.metadata, header.defects, len(header.entries)) == ({"format": "pt"}, [], 1)


# --- files that are something else --------------------------------------------------------------

FOREIGN = [
    ("empty-file", b""),
    ("header-too-short", b"abc"),
    ("lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"),
    ("html-page", b"<!DOCTYPE html><html><body>404</body></html>"),
    ("html-page", b"\n  <HTML>"),
    ("html-page", b'<?xml version="1.0"?><Error>AccessDenied</Error>'),
    ("pickle", b"PK\x03\x04" + bytes(100)),
    ("pickle", b"\x80\x02}q\x00." + bytes(100)),
    ("pickle", b"\x80\x05\x95" + bytes(100)),
    ("gguf", b"GGUF\x03\x00\x00\x00" + bytes(100)),
    ("zero-header", bytes(64)),
    ("header-json", struct.pack("<Q", 4) + b"[1,2" + bytes(8)),
    ("header-json", struct.pack("<Q", 0) + b"data"),
]


@pytest.mark.parametrize(
    ("code", "raw"), FOREIGN, ids=[f"{c}-{i}" for i, (c, _) in enumerate(FOREIGN)]
)
def test_file_that_is_something_else_is_named(put: Put, code: str, raw: bytes) -> None:
    header = read_header(put("m.safetensors", raw))
    assert codes(header) == [code]
    assert len(header.entries) == 0


def test_header_whose_length_looks_like_a_pickle_is_read(
    put: Put, assemble: Any, record: Record
) -> None:
    text = json.dumps({"a": record()}).encode().ljust(0x0280)  # 640 is \x80\x02 in little endian
    header = read_header(put("m.safetensors", assemble(text, bytes(6))))
    assert header.defects == []


def test_page_with_a_name_is_in_the_message(put: Put) -> None:
    header = read_header(put("m.safetensors", b"<html>"), name="part0-of-2/m.safetensors")
    assert header.defects[0].file == "part0-of-2/m.safetensors"
    assert header.defects[0].message.startswith("part0-of-2/m.safetensors: a web page")


def test_directory_under_the_name_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").mkdir()
    assert codes(read_header(tmp_path / "m.safetensors")) == ["not-a-file"]


def test_fifo_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.safetensors")
    assert codes(read_header(tmp_path / "m.safetensors")) == ["not-a-file"]


def test_missing_file_is_unreadable(tmp_path: Path) -> None:
    assert codes(read_header(tmp_path / "m.safetensors")) == ["unreadable"]


# --- the header's length ------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2**60, 2**64 - 1, 1000])
def test_header_longer_than_the_file_allocates_nothing(
    put: Put, valid_bytes: bytes, length: int
) -> None:
    path = put("m.safetensors", struct.pack("<Q", length) + valid_bytes[8:200])
    tracemalloc.start()
    header = read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert codes(header) == ["header-length"]
    assert str(length) in header.defects[0].found
    assert peak < 1 << 20


def test_header_over_the_limit_of_the_library_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", 100_000_001) + b"{")
        stream.truncate(200_000_000)
    assert codes(read_header(path)) == ["header-length"]


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_file_cut_short_says_which_tensor_lacks_bytes(
    put: Put, valid_bytes: bytes, cut: int
) -> None:
    header = read_header(put("m.safetensors", valid_bytes[:-cut]))
    assert set(codes(header)) == {"offsets-range"}
    assert "x.weight" in {defect.tensor for defect in header.defects}
    assert len(header.entries) == 5


def test_extra_bytes_are_told_from_missing_ones(put: Put, valid_bytes: bytes) -> None:
    header = read_header(put("m.safetensors", valid_bytes + b"xy"))
    assert codes(header) == ["trailing-bytes"]
    assert header.defects[0].found == "2 bytes after the last tensor"


# --- the header's JSON --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":}',
        b'{"a":1,}',
        b'{"a": NaN}',
        b'{"\xff": 1}',
        b'{"a":' + b"[" * 100_000,
        b'{"a": 1' + b"0" * 5000 + b"}",
        b'{"\\ud800": 1}',
        b"{} x",
    ],
)
def test_header_that_is_not_strict_json_is_refused(put: Put, assemble: Any, text: bytes) -> None:
    header = read_header(put("m.safetensors", assemble(text)))
    assert codes(header) == ["header-json"]
    assert header.defects[0].message.isprintable()


def test_duplicate_tensor_is_seen(put: Put, assemble: Any) -> None:
    one = b'{"dtype":"I8","shape":[1],"data_offsets":[0,1]}'
    two = b'{"dtype":"I8","shape":[1],"data_offsets":[1,2]}'
    header = read_header(put("m.safetensors", assemble(b'{"a":%b,"a":%b}' % (one, two), bytes(2))))
    assert codes(header) == ["header-duplicate-key"]
    assert header.defects[0].tensor == "a"
    assert len(header.entries) == 1


def test_duplicate_member_of_a_record_is_seen(put: Put, assemble: Any) -> None:
    text = b'{"a":{"dtype":"I8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    header = read_header(put("m.safetensors", assemble(text, bytes(1))))
    assert codes(header) == ["header-duplicate-key"]


@pytest.mark.parametrize("value", [7, [], {"a": 1}, None])
def test_metadata_of_other_than_strings_is_a_defect(put: Put, assemble: Any, value: object) -> None:
    header = read_header(put("m.safetensors", assemble({"__metadata__": value})))
    assert codes(header) == ["header-metadata"]
    assert header.metadata is None


# --- the records --------------------------------------------------------------------------------

BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("header-dtype", {"dtype": "Q4"}),
    ("header-dtype", {"dtype": 8}),
    ("header-dtype", {"dtype": None}),
    ("header-dtype", {"dtype": ["I8"]}),
    ("header-shape", {"shape": [-2, -3]}),
    ("header-shape", {"shape": [2.0, 3]}),
    ("header-shape", {"shape": [True, 6]}),
    ("header-shape", {"shape": ["2", 3]}),
    ("header-shape", {"shape": 6}),
    ("header-shape", {"shape": {"0": 2}}),
    ("header-shape", {"shape": [2**63]}),
    ("header-shape", {"shape": [2**32, 2**32]}),
    ("header-shape", {"shape": [10**4000]}),
    ("header-shape", {"shape": [1] * 65}),
    ("size-mismatch", {"shape": [2, 4]}),
    ("size-mismatch", {"dtype": "F16"}),
    ("size-mismatch", {"shape": [2**31, 2**31]}),
    ("size-mismatch", {"shape": []}),
    ("size-mismatch", {"dtype": "F4", "shape": [11]}),
    ("offsets-range", {"data_offsets": [0, 7]}),
    ("offsets-range", {"data_offsets": [-6, 0]}),
    ("offsets-range", {"data_offsets": [6, 0]}),
    ("offsets-range", {"data_offsets": [0, 2**80]}),
    ("offsets-range", {"data_offsets": [0.0, 6]}),
    ("offsets-range", {"data_offsets": [False, 6]}),
    ("offsets-range", {"data_offsets": [0]}),
    ("offsets-range", {"data_offsets": [0, 3, 6]}),
    ("offsets-range", {"data_offsets": "0:6"}),
    ("header-record", {"more": 1}),
]


@pytest.mark.parametrize(
    ("code", "changes"), BROKEN, ids=[f"{c}-{i}" for i, (c, _) in enumerate(BROKEN)]
)
def test_broken_record_gives_exactly_its_defect(
    put: Put, assemble: Any, record: Record, code: str, changes: dict[str, Any]
) -> None:
    header = read_header(put("m.safetensors", assemble({"a": record(**changes)}, bytes(6))))
    assert codes(header) == [code]
    assert header.defects[0].tensor == "a"
    assert len(header.defects[0].message) < 1000


@pytest.mark.parametrize("value", [None, 3, "I8", [], {}])
def test_record_that_is_no_record_is_a_defect(put: Put, assemble: Any, value: object) -> None:
    assert codes(read_header(put("m.safetensors", assemble({"a": value})))) == ["header-record"]


def test_defect_hides_no_good_neighbour(put: Put, assemble: Any, record: Record) -> None:
    raw = assemble({"bad": record(dtype="Q4"), "good": record(data_offsets=[6, 12])}, bytes(12))
    header = read_header(put("m.safetensors", raw))
    assert codes(header) == ["header-dtype"]  # and no gap: where the bad one lies is not known
    assert [entry.name for entry in header.entries] == ["good"]


def test_half_byte_dtype_is_counted_in_bits(put: Put, assemble: Any, record: Record) -> None:
    raw = assemble({"a": record(dtype="F4", shape=[3, 4])}, bytes(6))
    assert read_header(put("m.safetensors", raw)).defects == []


@pytest.mark.parametrize("start", [4, 5])
def test_overlap_names_the_later_tensor(
    put: Put, assemble: Any, record: Record, start: int
) -> None:
    members = {"b": record(data_offsets=[start, start + 6]), "a": record()}
    header = read_header(put("m.safetensors", assemble(members, bytes(start + 6))))
    assert codes(header) == ["offsets-overlap"]
    assert header.defects[0].tensor == "b"


def test_aliased_tensors_overlap(put: Put, assemble: Any, record: Record) -> None:
    raw = assemble({"a": record(), "b": record()}, bytes(6))
    assert codes(read_header(put("m.safetensors", raw))) == ["offsets-overlap"]


@pytest.mark.parametrize("first", [0, 3])
def test_gap_names_the_tensor_after_it(put: Put, assemble: Any, record: Record, first: int) -> None:
    members = {
        "a": record(shape=[first], data_offsets=[0, first]),
        "b": record(data_offsets=[4, 10]),
    }
    header = read_header(put("m.safetensors", assemble(members, bytes(10))))
    assert codes(header) == ["offsets-gap"]
    assert header.defects[0].tensor == "b"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("name-empty", ""),
        ("name-control-characters", "a\x00b"),
        ("name-control-characters", "a\nb"),
        ("name-control-characters", "a\x1b[31m"),
        ("name-control-characters", "a\u202eb"),
        ("name-length", "x" * 1025),
    ],
)
def test_hostile_name_is_a_defect_with_a_printable_message(
    put: Put, assemble: Any, record: Record, code: str, name: str
) -> None:
    header = read_header(put("m.safetensors", assemble({name: record()}, bytes(6))))
    assert codes(header) == [code]
    assert header.defects[0].message.isprintable()
    assert len(header.defects[0].message) < 1000
    assert len(header.entries) == 1


def test_path_separators_in_names_are_legal(put: Put, assemble: Any, record: Record) -> None:
    header = read_header(put("m.safetensors", assemble({"../a/b": record()}, bytes(6))))
    assert header.defects == []


# --- anything at all ----------------------------------------------------------------------------

FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(data=st.data())
def test_flipped_bytes_never_raise(tmp_path: Path, valid_bytes: bytes, data: st.DataObject) -> None:
    raw = bytearray(valid_bytes)
    header_size = 8 + struct.unpack("<Q", valid_bytes[:8])[0]
    flips = st.tuples(st.integers(0, header_size - 1), st.integers(0, 255))
    for position, value in data.draw(st.lists(flips, max_size=4)):
        raw[position] = value
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw)
    header = read_header(path)
    assert all(defect.message.isprintable() for defect in header.defects)
    for entry in header.entries:
        assert entry.begin == -1 or 0 <= entry.begin <= entry.end <= len(raw)


@FUZZ
@given(size=st.integers(0, 400), tail=st.binary(max_size=16))
def test_truncated_file_is_never_without_defect(
    tmp_path: Path, valid_bytes: bytes, size: int, tail: bytes
) -> None:
    raw = valid_bytes[: min(size, len(valid_bytes) - 1)] + tail
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw)
    header = read_header(path)
    assert header.defects or len(raw) == len(valid_bytes)


@FUZZ
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_in_the_header_never_raises(tmp_path: Path, value: object) -> None:
    text = json.dumps({"a": value, "b": {"dtype": value, "shape": value, "data_offsets": value}})
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text.encode())) + text.encode() + bytes(8))
    assert read_header(path).defects

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slimspec.checkpoint import JsonFile, read_json
from slimspec.checkpoint.jsonfile import loads

Put = Callable[[str, bytes | str], Path]


def only(file: JsonFile) -> tuple[str, str]:
    assert file.value is None
    assert len(file.defects) == 1
    assert file.defects[0].message.isprintable()
    return file.defects[0].code, file.defects[0].found


def test_valid_json_is_returned_without_defects(put: Put) -> None:
    file = read_json(put("a.json", '{"a": [1, 2.5, null, true, "x"], "b": {"c": -1}}'))
    assert file.value == {"a": [1, 2.5, None, True, "x"], "b": {"c": -1}}
    assert (file.duplicates, file.defects) == ((), ())


def test_duplicates_are_listed_with_all_their_values(put: Put) -> None:
    file = read_json(put("a.json", '{"a": "FLOAT", "b": 1, "a": "W8A8"}'))
    assert file.value == {"a": "W8A8", "b": 1}
    assert [(d.key, d.values) for d in file.duplicates] == [("a", ("FLOAT", "W8A8"))]
    assert [d.code for d in file.defects] == ["json-duplicate-key"]
    assert "with values FLOAT, W8A8" in file.defects[0].message


def test_duplicates_in_an_inner_object_are_listed(put: Put) -> None:
    file = read_json(put("a.json", '{"weight_map": {"t": "1", "t": "2"}}'))
    assert [d.key for d in file.duplicates] == ["t"]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('{"a:": 1, "b" : 2, "b": 3}', ["b"]),
        ('{"a": {"x": 1}, "a": "{:"}', ["a"]),
        ('[{"a": 1, "a": ":"}]', ["a"]),
        ('{"a": [{"b": 1, "b": "{"}]}', ["b"]),
        ('{"a": {"b": 1, "b": 2}, "a": {"b": 1, "c": 2}}', ["b", "a"]),
        ('{"a:{": ":", "b": ["{", {}]}', []),
    ],
)
def test_colons_and_braces_in_strings_hide_no_duplicate(
    put: Put, text: str, keys: list[str]
) -> None:
    assert [d.key for d in read_json(put("a.json", text)).duplicates] == keys


@given(st.text(alphabet='{}[]":, ab1', max_size=30))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_duplicates_are_those_of_all_pairs(text: str) -> None:
    import json

    pairs: list[str] = []

    def collect(found: list[tuple[str, object]]) -> None:
        names = [key for key, _ in found]
        pairs.extend(key for key in dict.fromkeys(names) if names.count(key) > 1)

    try:
        json.loads(text, object_pairs_hook=collect)
    except ValueError:
        return
    assert [d.key for d in loads(text.encode())[1]] == pairs


def test_trailing_comma_is_named_with_its_place(put: Put) -> None:
    assert only(read_json(put("a.json", '{\n  "a": 1,\n}'))) == (
        "json-syntax",
        "line 3:1: trailing comma",
    )


def test_comment_is_named_with_its_place(put: Put) -> None:
    code, found = only(read_json(put("a.json", '{\n  // note\n  "a": 1}')))
    assert (code, found) == ("json-syntax", "line 2:3: a comment")


@pytest.mark.parametrize("text", ["{", "{'a': 1}", "[1 2]", "\x00", "{} {}"])
def test_syntax_error_has_line_and_column(put: Put, text: str) -> None:
    code, found = only(read_json(put("a.json", text)))
    assert code == "json-syntax"
    assert found.startswith("line 1:")


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "9" * 5000])
def test_number_that_is_not_finite_json_is_refused(put: Put, text: str) -> None:
    assert only(read_json(put("a.json", text)))[0] == "json-number"


@pytest.mark.parametrize(
    "raw",
    [
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
        '{"a": 1}'.encode("utf-16"),
        b'"\\ud800"',
        b'{"\\uDC00": 1}',
    ],
)
def test_text_that_is_not_plain_utf8_is_refused(put: Put, raw: bytes) -> None:
    assert only(read_json(put("a.json", raw)))[0] == "json-encoding"


def test_escaped_pair_of_surrogates_is_text(put: Put) -> None:
    assert read_json(put("a.json", '"\\ud83d\\ude00"')).value == "\N{GRINNING FACE}"


@pytest.mark.parametrize("depth", [65, 500, 1_000_000])
def test_deep_nesting_is_refused(put: Put, depth: int) -> None:
    assert only(read_json(put("a.json", "[" * depth + "]" * depth)))[0] == "json-depth"


def test_nesting_below_the_limit_is_read(put: Put) -> None:
    assert read_json(put("a.json", "[" * 64 + "]" * 64)).defects == ()


def test_file_over_the_limit_is_not_read(put: Put) -> None:
    assert only(read_json(put("a.json", " " * 101), limit=100))[0] == "json-size"


def test_sparse_giant_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, 1 << 40)
    assert only(read_json(path))[0] == "json-size"


def test_bomb_of_empty_lists_is_not_parsed(put: Put) -> None:
    assert only(read_json(put("a.json", "[" + "[]," * 4_000_001 + "1]")))[0] == "json-size"


def test_empty_file_is_named(put: Put) -> None:
    assert only(read_json(put("a.json", b"")))[0] == "empty-file"


def test_lfs_pointer_is_named(put: Put) -> None:
    raw = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    assert only(read_json(put("a.json", raw)))[0] == "lfs-pointer"


def test_missing_file_and_directory_are_defects(tmp_path: Path) -> None:
    assert only(read_json(tmp_path / "no.json"))[0] == "unreadable"
    assert only(read_json(tmp_path))[0] == "not-a-file"


def test_fifo_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    assert only(read_json(tmp_path / "a.json"))[0] == "not-a-file"


def test_hostile_key_does_not_reach_the_message(put: Put) -> None:
    file = read_json(put("a.json", '{"\\u001b[2J": 1, "\\u001b[2J": 2}'))
    assert file.defects[0].message.isprintable()


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,0123456789.eE-+\\u tfn', max_size=40))
def test_anything_never_raises(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    file = read_json(path)
    assert file.value is not None or file.defects or path.read_bytes().strip() == b"null"


def test_recursion_limit_is_left_alone(put: Put) -> None:
    before = sys.getrecursionlimit()
    read_json(put("a.json", "[" * 100_000))
    assert sys.getrecursionlimit() == before

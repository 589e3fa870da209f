"""Python files and tokenizers that do not belong to the weights beside them."""

import json
import shutil

import pytest

from slimcheck.run import run
from slimspec.data import folder

VALID = "w8a8-dynamic-a1-bf16"
ROWS = 48  # of its embedding


@pytest.fixture
def directory(tmp_path):
    return shutil.copytree(folder("golden") / "checkpoints" / "valid" / VALID, tmp_path / "model")


def merge(directory, name, **members):
    path = directory / name
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | members))


def found(directory, requirement):
    results = run(directory, level="layout").failed
    return [g for r in results if r.requirement.id == requirement for g in r.groups]


def tokenizer(vocab, *added, **model):
    tokens = [{"id": number, "content": f"<{number}>"} for number in added]
    return json.dumps({"model": {"vocab": vocab, **model}, "added_tokens": tokens})


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoConfig": "configuration_tiny.Tiny"},
        {"AutoTokenizer": ["tokenization_tiny.Tiny", None]},
        {"AutoModel": "some/repository--modeling_elsewhere.Model"},
        {"AutoModel": 7, "AutoConfig": None},
        ["configuration_other.Other"],
        "configuration_other.Other",
        {},
    ],
)
def test_auto_map_that_is_satisfied(directory, auto_map):
    (directory / "configuration_tiny.py").touch()
    (directory / "tokenization_tiny.py").touch()
    merge(directory, "config.json", auto_map=auto_map)
    merge(directory, "tokenizer_config.json", auto_map=auto_map)
    assert found(directory, "DIR-025") == []


def test_file_that_several_classes_need_is_named_once(directory):
    classes = {"AutoConfig": "tiny.Config", "AutoModel": "tiny.Model"}
    merge(directory, "config.json", auto_map=classes)
    merge(
        directory, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tiny.Slow", "tiny.Fast"]}
    )
    (group,) = found(directory, "DIR-025")
    assert (group.found, group.expected) == (
        "auto_map 'tiny.Config', no tiny.py",
        "that file beside it",
    )
    assert (group.file, group.count) == ("config.json", 1)


@pytest.mark.parametrize(
    "reference",
    ["../secret.Class", "/etc/passwd.Class", "a/b.Class", "tiny", "tiny.", ".Class", "a.b.C", "",
     "tiny.Class\n", "\x1b[2J.Class", "ｔiny.Class", "x" * 10_000],
)  # fmt: skip
def test_reference_that_names_no_module_is_shown_and_not_followed(directory, reference):
    merge(directory, "config.json", auto_map={"AutoConfig": reference})
    (group,) = found(directory, "DIR-025")
    assert group.kind == "form"
    assert len(group.found) < 200
    assert group.found.isprintable()


def test_folder_of_that_name_beside_is_not_opened(directory):
    (directory / "tokenizer.json").mkdir()
    (directory / "generation_config.json").mkdir()
    assert found(directory, "DIR-026") == []


@pytest.mark.parametrize(
    "text",
    [
        tokenizer({"a": 0, "b": ROWS - 1}),
        tokenizer({"a": 0}, ROWS, ROWS + 1),
        tokenizer([["a", -1.5], ["b", -2.5]], type="Unigram"),
        tokenizer({"a": "0", "b": None, "c": True, "d": 1.5, "e": -1}),
        tokenizer({}),
        tokenizer("text"),
        json.dumps([]),
        json.dumps({"model": [], "added_tokens": {}}),
        json.dumps({"model": {"vocab": {"a": 0}}, "added_tokens": [1, {"id": "x"}]}),
    ],
)
def test_tokenizer_that_fits_or_says_nothing(directory, text):
    (directory / "tokenizer.json").write_text(text)
    assert found(directory, "DIR-026") == []


@pytest.mark.parametrize(
    "text", [tokenizer({"a": ROWS}), tokenizer([["a", 0.0]] * (ROWS + 1), type="Unigram")]
)
def test_vocabulary_beyond_the_embedding(directory, text):
    (directory / "tokenizer.json").write_text(text)
    (group,) = found(directory, "DIR-026")
    assert group.found == f"a vocabulary up to id {ROWS}"
    assert group.expected == f"ids below {ROWS}, its rows"


def test_vocab_size_counts_where_no_embedding_lies(directory):
    (directory / "quant_model_weights-00001-of-00001.safetensors").unlink()
    (directory / "tokenizer.json").write_text(tokenizer({"a": 99}))
    merge(directory, "config.json", vocab_size=100)
    assert found(directory, "DIR-026") == []
    merge(directory, "config.json", vocab_size=99)
    assert [group.kind for group in found(directory, "DIR-026")] == ["rows"]


@pytest.mark.parametrize(
    ("end", "strange"),
    [(1, False), ([1, 40], False), (41, False), (2, True), ([1, 2], True), (-1, False),
     ("2", False), (None, False), (True, False), ([None, [2]], False)],
)  # fmt: skip
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_end_of_text_is_a_token(directory, file, end, strange):
    (directory / "tokenizer.json").write_text(tokenizer({"a": 0, "b": 1}, 40))
    merge(
        directory, "tokenizer_config.json", added_tokens_decoder={"41": {}, "x": {}, "9" * 99: {}}
    )
    merge(directory, file, eos_token_id=end)
    groups = found(directory, "DIR-026")
    assert [group.kind for group in groups] == ["end"] * strange
    if strange:
        assert groups[0].file == file
        assert groups[0].found == "eos_token_id 2, no token of tokenizer.json"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty-file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "lfs-pointer"),
        (b'{"model": {"vocab": {"a": 0', "json-syntax"),
        (b"<html>", "json-syntax"),
        (b"\xff\xfe", "json-encoding"),
        (b"[" * 100, "json-syntax"),
    ],
)
def test_tokenizer_that_cannot_be_read(directory, content, kind):
    (directory / "tokenizer.json").write_bytes(content)
    (group,) = found(directory, "DIR-026")
    assert group.kind == kind


def test_tokenizer_that_may_not_be_read(directory):
    (directory / "tokenizer.json").symlink_to("tokenizer.json")  # also root cannot open it
    (group,) = found(directory, "DIR-026")
    assert (group.kind, group.file) == ("unreadable", "tokenizer.json")


def test_tokenizer_beyond_our_limits_is_not_judged(directory):
    deep = "[" * 80 + "]" * 80
    (directory / "tokenizer.json").write_text(deep)
    assert found(directory, "DIR-026") == []
    with (directory / "tokenizer.json").open("wb") as stream:
        stream.truncate(65 << 20)
    assert found(directory, "DIR-026") == []


def test_many_absent_files_are_one_group(directory):
    merge(directory, "config.json", auto_map={f"Auto{i}": f"m{i}.Class" for i in range(100)})
    (group,) = found(directory, "DIR-025")
    assert group.findings == 100


def test_huge_ids_are_not_written_out(directory):
    (directory / "tokenizer.json").write_text(tokenizer({"a": 10**4000}))
    merge(directory, "generation_config.json", eos_token_id=10**4001)
    assert {len(group.found) < 80 for group in found(directory, "DIR-026")} == {True}

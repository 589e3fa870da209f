"""Modes and digests of weights that were copied."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from slimcheck.run import run
from slimspec.data import folder

VALID = "w8a8-dynamic-a1-bf16"
SHARD = "quant_model_weights-00001-of-00001.safetensors"


@pytest.fixture
def directory(tmp_path):
    made = shutil.copytree(folder("golden") / "checkpoints" / "valid" / VALID, tmp_path / "model")
    (made / SHARD).chmod(0o644)
    return made


@pytest.fixture
def digest(directory):
    return hashlib.sha256((directory / SHARD).read_bytes()).hexdigest()


def found(directory, requirement, level="values"):
    results = run(directory, level=level).failed
    return [g for r in results if r.requirement.id == requirement for g in r.groups]


def shards(directory, *modes, prefix):
    for number, mode in enumerate(modes, 1):
        path = directory / f"{prefix}-{number:05}-of-{len(modes):05}.safetensors"
        path.write_bytes((2).to_bytes(8, "little") + b"{}")
        path.chmod(mode)


@pytest.mark.parametrize(
    ("modes", "files"),
    [
        ((0o644, 0o644, 0o444), 0),
        ((0o400, 0o600, 0o700), 0),
        ((0o644, 0o600, 0o644), 1),
        ((0o400, 0o400, 0o444), 1),
        ((0o640, 0o644), 1),
        ((0o600, 0o644, 0o640), 2),
    ],
)
def test_audience_of_the_shards(directory, modes, files):
    shards(directory, *modes, prefix="other")
    groups = found(directory, "DIR-027", "layout")
    assert sum(group.count for group in groups) == files


def test_narrower_of_two_shards_is_named(directory):
    shards(directory, 0o600, 0o644, prefix="other")
    (group,) = found(directory, "DIR-027", "layout")
    assert group.file == "other-00001-of-00002.safetensors"
    assert group.found == "readable by the owner"
    assert group.expected == "the owner, the group, others, as 1 of its shards"


def test_files_of_other_names_are_not_compared(directory):
    shards(directory, 0o400, prefix="mtp_float")
    (directory / "rot.safetensors").touch(0o400)
    assert found(directory, "DIR-027", "layout") == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("SHA256SUMS", "{digest}  {shard}"),
        ("sha256sum.txt", "{digest} *{shard}"),
        ("weights.sha256", "{digest}  ./{shard}\n"),
        ("weights.SHA256SUMS", "# a comment\r\n\r\n{digest}  {shard}\r\n"),
        ("checks.sha256", "SHA256 ({shard}) = {digest}"),
        (SHARD + ".sha256", "{digest}\n"),
    ],
)
def test_forms_of_a_list(directory, digest, name, line):
    other = f"{int(digest[0], 16) ^ 1:x}{digest[1:]}"
    for text, expected in ((digest, []), (digest.upper(), []), (other, ["digest"])):
        (directory / name).write_text(line.format(digest=text, shard=SHARD))
        assert [group.kind for group in found(directory, "DIR-028")] == expected
    assert found(directory, "DIR-028", "layout") == []


def test_damaged_byte_is_named_with_both_digests(directory, digest):
    (directory / "SHA256SUMS").write_text(f"{digest}  {SHARD}\n")
    content = bytearray((directory / SHARD).read_bytes())
    content[-1] ^= 1
    (directory / SHARD).write_bytes(content)
    (group,) = found(directory, "DIR-028")
    assert group.file == SHARD
    assert group.found == f"sha256 {hashlib.sha256(content).hexdigest()[:16]}…"
    assert group.expected == f"sha256 {digest[:16]}… of SHA256SUMS"


def test_lists_that_contradict_each_other(directory, digest):
    (directory / "SHA256SUMS").write_text(f"{digest}  {SHARD}\n")
    (directory / "old.sha256").write_text(f"{'0' * 64}  {SHARD}\n")
    (group,) = found(directory, "DIR-028")
    assert group.expected == f"sha256 {'0' * 16}… of old.sha256"


def test_file_that_is_listed_and_absent(directory, digest):
    (directory / "SHA256SUMS").write_text(f"{digest}  {SHARD}\n{digest}  more.safetensors\n")
    (group,) = found(directory, "DIR-028")
    assert (group.kind, group.pattern, group.file) == ("absent", "more.safetensors", "SHA256SUMS")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 64,
        f"{'0' * 64}  config.json",
        f"{'0' * 64}  model-00001-of-00002.safetensors",
        f"{'0' * 64}  ../{SHARD}",
        f"{'0' * 64}  /etc/x.safetensors",
        f"{'0' * 64}  sub/{SHARD}",
        f"{'0' * 63}  {SHARD}",
        f"{'g' * 64}  {SHARD}",
        f"{'0' * 64}{SHARD}",
        "\x00\xff",
    ],
)
def test_lines_about_nothing_here(directory, text):
    (directory / "SHA256SUMS").write_text(text)
    assert found(directory, "DIR-028") == []


def test_list_that_is_no_file_or_too_large_is_passed_over(directory, digest):
    (directory / "a.sha256").mkdir()
    (directory / "b.sha256").symlink_to("/nowhere")
    os.mkfifo(directory / "c.sha256")
    (directory / "d.sha256").write_text(f"{'0' * 64}  {SHARD}\n" + "\n" * (4 << 20))
    assert found(directory, "DIR-028") == []


def test_list_that_cannot_be_read_does_not_hide_another(directory, digest, monkeypatch):
    (directory / "a.sha256").write_text(f"{digest}  {SHARD}\n")
    (directory / "b.sha256").write_text(f"{'0' * 64}  {SHARD}\n")
    opened = Path.open

    def refuse(path, *args):
        if path.name == "a.sha256":
            raise PermissionError(13, "Permission denied")
        return opened(path, *args)

    monkeypatch.setattr(Path, "open", refuse)
    unread, wrong = sorted(found(directory, "DIR-028"), key=lambda group: group.file)
    assert (unread.kind, unread.file) == ("list", "a.sha256")
    assert unread.found == "cannot be read (Permission denied)"
    assert (wrong.kind, wrong.file) == ("digest", SHARD)


def test_file_that_cannot_be_read_does_not_hide_another(directory, digest, monkeypatch):
    other = SHARD.replace("00001-of-00001", "00002-of-00001")
    (directory / other).write_bytes((directory / SHARD).read_bytes())
    (directory / "SHA256SUMS").write_text(f"{'0' * 64}  {SHARD}\n{'0' * 64}  {other}\n")
    whole = hashlib.file_digest

    def refuse(stream, name):
        if Path(stream.name).name == SHARD:
            raise OSError(5, "Input/output error")
        return whole(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    groups = {group.file: group.found for group in found(directory, "DIR-028")}
    assert groups[SHARD] == "cannot be read (Input/output error)"
    assert groups[other] == f"sha256 {digest[:16]}…"


def test_file_that_goes_on_for_ever_is_not_read(directory, digest):
    (directory / "SHA256SUMS").write_text(f"{digest}  {SHARD}\n")
    with (directory / SHARD).open("r+b") as stream:
        stream.truncate(1 << 40)
    assert found(directory, "DIR-028") == []

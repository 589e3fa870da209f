"""DIR: what happens to files on their way: other modes, other bytes."""

import hashlib
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.registry import rule
from slimcheck.values.scan import processors
from slimspec.checkpoint.index import is_safe_name

_READ_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH
_NUMBERS = re.compile(r"-\d{5,}-of-\d{5,}(?=\.safetensors$)", re.ASCII)
_LIST = re.compile(r"(?i:sha256sums?(\.txt)?|.+\.sha256(sums?)?)", re.ASCII)
_LIST_LIMIT = 4 << 20  # bytes
_LONGER = "trailing-bytes"
_READABLE = "a list that can be read"
_DIGEST = r"(?P<digest>[0-9a-fA-F]{64})"
_LINES = tuple(
    re.compile(form, re.ASCII)
    for form in (
        rf"{_DIGEST} [ *](?:\./)?(?P<name>.+)",  # of sha256sum
        rf"SHA256 \((?:\./)?(?P<name>.+)\) = {_DIGEST}",  # of sha256sum --tag
    )
)


@rule("DIR-027")
def shards_have_one_audience(ck: Context) -> Iterator[Finding]:
    families: dict[str, dict[int, list[str]]] = {}
    for entry in ck.checkpoint.files:
        if not entry.is_directory and (match := _NUMBERS.search(entry.name)):
            family = entry.name[: match.start()]
            audience = entry.mode & _READ_BY_OTHERS
            families.setdefault(family, {}).setdefault(audience, []).append(entry.name)
    for audiences in families.values():
        usual = max(audiences, key=lambda audience: (len(audiences[audience]), audience))
        for audience, names in audiences.items():
            if audience != usual:
                found = f"readable by {_users(audience)}"
                expected = f"{_users(usual)}, as {len(audiences[usual])} of its shards"
                for name in names:
                    yield Finding("DIR-027", "mode", found, expected, file=ck.prefix + name)


def _users(audience: int) -> str:
    named = ((stat.S_IRGRP, "the group"), (stat.S_IROTH, "others"))
    return ", ".join(["the owner", *(name for bit, name in named if audience & bit)])


@rule("DIR-028", reads=True)
def weights_have_their_digest(ck: Context) -> Iterator[Finding]:
    """Of shards that are asked for and end with their tensors: others may go on for terabytes."""
    listed: dict[str, dict[str, str]] = {}
    for name, lines in _lists(ck).items():
        if isinstance(lines, str):
            yield Finding("DIR-028", "list", lines, _READABLE, file=ck.prefix + name)
        else:
            for weights, digest in lines.items():
                listed.setdefault(weights, {})[ck.prefix + name] = digest
    here = {shard.name for shard in ck.checkpoint.shards}
    for name in sorted(listed.keys() - here):
        for source in listed[name]:
            yield Finding(
                "DIR-028", "absent", "no such file", "the file that it lists", (name,), source
            )
    endless = {s.name for s in ck.checkpoint.shards if any(d.code == _LONGER for d in s.defects)}
    names = sorted((listed.keys() & ck.checkpoint.asked) - endless)
    with ThreadPoolExecutor(processors()) as pool:
        digests = list(pool.map(lambda name: _sha256(ck.checkpoint.path / name), names))
    for name, found in zip(names, digests, strict=True):
        for source, expected in listed[name].items():
            if found != f"sha256 {expected}":
                wanted = f"sha256 {expected[:16]}… of {source}"
                yield Finding("DIR-028", "digest", _short(found), wanted, file=ck.prefix + name)


def _short(found: str) -> str:
    return f"{found[:23]}…" if found.startswith("sha256 ") else found


def _lists(ck: Context) -> dict[str, dict[str, str] | str]:
    """List -> digests by the names of weights files, or why it cannot be read.

    A list of which no file is here came with the float model, from which it was copied.
    """
    here = {shard.name for shard in ck.checkpoint.shards}
    found: dict[str, dict[str, str] | str] = {}
    for entry in ck.checkpoint.files:
        if entry.is_directory or entry.size > _LIST_LIMIT or not _LIST.fullmatch(entry.name):
            continue
        path = ck.checkpoint.path / entry.name
        try:
            lines = dict(_lines(path)) if path.is_file() else {}
        except OSError as error:
            found[entry.name] = f"cannot be read ({error.strerror})"
            continue
        if not here.isdisjoint(lines):
            found[entry.name] = {
                name: digest.lower()
                for name, digest in lines.items()
                if name.endswith(".safetensors") and is_safe_name(name)
            }
    return found


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(name, digest) of every line of a list; a file of one digest is about NAME of NAME.sha256.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        text = stream.read(_LIST_LIMIT).decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and re.fullmatch(_DIGEST, lines[0]):
        yield path.name.rpartition(".")[0], lines[0]
    for line in lines:
        match = next((m for form in _LINES if (m := form.fullmatch(line))), None)
        if match:
            yield match["name"], match["digest"]


def _sha256(path: Path) -> str:
    """The digest of a file, as "sha256 …", or why there is none."""
    if not path.is_file():  # a pipe would never end
        return "not a regular file"
    try:
        with path.open("rb") as stream:
            return f"sha256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except OSError as error:
        return f"cannot be read ({error.strerror})"

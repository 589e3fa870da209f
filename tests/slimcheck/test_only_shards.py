"""`--only-shards`: other shards are left alone, and the runs together say what one run says."""

import hashlib
import json
import re
import shutil
import struct
from pathlib import Path

import pytest

from slimcheck.engine import Options
from slimcheck.report import Report, build, html
from slimcheck.run import run
from slimspec.checkpoint import Checkpoint, open_checkpoint
from slimspec.data import folder
from slimspec.golden import checkpoint_cases

SOURCE = folder("golden") / "checkpoints" / "valid" / "w8a8-a0-bf16"
COPIES = "VAL-005"  # equal weights in two shards show in a run that reads both

Said = tuple[str, str, str, str]


def said(report: Report) -> set[Said]:
    """Every finding: requirement, kind, what was expected, tensor or file."""
    return {
        (group.requirement, group.kind, group.expected, name)
        for result in report.failed
        for group in result.groups
        for name in (group.tensors or sorted(group.files) or [""])
    }


def split(directory: Path, shards: int, key: str) -> None:
    """Write SOURCE again as several shards; modules whose names match `key` alike stay together."""
    directory.mkdir()
    checkpoint = open_checkpoint(SOURCE)
    (whole,) = checkpoint.shards
    for file in SOURCE.iterdir():
        if file.name != whole.name and not file.name.endswith(".index.json"):
            shutil.copyfile(file, directory / file.name)
    table = checkpoint.table.names
    keys = sorted({found[0] for name in table if (found := re.match(key, name))})
    stem = whole.name.removesuffix(".safetensors")
    index, digests = {}, []
    for number in range(shards):
        file = directory / f"{stem}-{number + 1:05}-of-{shards:05}.safetensors"
        names = [n for n in table if _shard(re.match(key, n), keys, shards) == number]
        file.write_bytes(_safetensors(checkpoint, names))
        index |= dict.fromkeys(names, file.name)
        digests.append(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    (directory / "SHA256SUMS").write_text("".join(digests))
    (directory / f"{whole.name}.index.json").write_text(
        json.dumps({"metadata": {"total_size": checkpoint.table.nbytes}, "weight_map": index})
    )


def _shard(found: re.Match[str] | None, keys: list[str], shards: int) -> int:
    return keys.index(found[0]) % shards if found else 0


def _safetensors(checkpoint: Checkpoint, names: list[str]) -> bytes:
    header, data = {}, b""
    for name in names:
        row, raw = checkpoint.table.row(checkpoint.table.index(name)), checkpoint.raw(name)
        offsets = [len(data), len(data) + raw.nbytes]
        header[name] = {"dtype": row.dtype, "shape": row.shape, "data_offsets": offsets}
        data += raw.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def damage(directory: Path) -> None:
    """A hole in the data of every shard."""
    for file in directory.glob("*.safetensors"):
        content = bytearray(file.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 3000] = bytes(3000)
        file.write_bytes(content)


def change(directory: Path, tensor: str) -> None:
    """Turn the bytes of a tensor to those of about 1."""
    row = (table := open_checkpoint(directory).table).row(table.index(tensor))
    content = bytearray((directory / row.file).read_bytes())
    content[row.begin : row.end] = b"\x80\x3f" * ((row.end - row.begin) // 2)
    (directory / row.file).write_bytes(content)


def shards_of(directory: Path) -> list[str]:
    checkpoint = open_checkpoint(directory)
    names = [shard.name for shard in checkpoint.shards]
    return names + [f"{p.name}/{s.name}" for p in checkpoint.parts for s in p.checkpoint.shards]


def test_runs_by_shard_together_say_what_one_run_says(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint"
    split(directory, 3, r".*(?=\.)")  # members of one fused linear lie in several shards
    damage(directory)
    change(directory, "model.layers.0.self_attn.k_proj.input_scale")
    whole = said(run(directory))
    runs = [said(run(directory, only_shards=[name])) for name in shards_of(directory)]
    assert {row for row in whole if row[0] != COPIES} == set().union(*runs)
    assert {row[0] for row in whole} >= {"DIR-028", "PACK-003", "W8A8-012"}
    everywhere = set.intersection(*runs)
    own = [one - everywhere for one in runs]
    assert all(own)
    assert sum(map(len, own)) == len(set().union(*own))  # each is said in one run only


@pytest.mark.parametrize("name", ["tp-007", "sc-002", "deq-003", "rot-003", "norm-005"])
def test_so_they_do_for_every_kind_of_container(name: str, tmp_path: Path) -> None:
    case = next(case for case in checkpoint_cases() if case.id == name)
    directory = case.materialize(tmp_path / "checkpoint")
    names = shards_of(directory)
    assert len(names) > 1 or name == "rot-003"
    runs = [said(run(directory, only_shards=[shard], tp=case.tp)) for shard in names]
    assert set().union(*runs) == said(run(directory, tp=case.tp))


def test_bytes_of_other_shards_are_not_read(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint"
    split(directory, 3, r"model\.layers\.\d+")
    damage(directory)
    first, *others = shards_of(directory)
    before, checkpoint = open_checkpoint(directory), open_checkpoint(directory)
    options = Options(only_shards=(first,))
    expected = build(before, options)
    for name in others:
        (directory / name).unlink()
    found = build(checkpoint, options)
    assert found.verdicts == expected.verdicts
    assert said(found) == said(expected)
    assert html.document(found) == html.document(expected)

"""DIR: directories that are cut for a number of ranks (SC, SH310, OFF)."""

import re
from collections.abc import Iterator
from typing import Any

from slimcheck.context import Context
from slimcheck.described import as_count
from slimcheck.findings import Finding
from slimcheck.registry import ROOT, rule
from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip
from slimspec.checkpoint.index import is_safe_name
from slimspec.checkpoint.listing import list_directory
from slimspec.checkpoint.profile import PART, RANK_SHARD

_SHOWN = 8
_COMPRESSED = (None, "w8a8sc", "w16a16sc")
_SIZES = ("dp", "tp", "moe_tp", "moe_ep")
_NORM = "model-norm"
_FOLDER = re.compile(r"model-(attn-tp-|dense-tp-|)(\d{3,9})")


@rule("DIR-014", on=ROOT)
def parts_are_complete(ck: Context) -> Iterator[Finding]:
    for defect in ck.checkpoint.defects:
        if PART.fullmatch(defect.file):
            yield Finding("DIR-014", "unreadable", defect.found, defect.expected, file=defect.file)
    parts = ck.checkpoint.parts
    worlds = sorted({part.world for part in parts})
    ranks = sorted(part.rank for part in parts)
    if parts and (worlds != [len(parts)] or ranks != list(range(len(parts)))):
        found = _some([part.name for part in parts])
        wanted = f"part0-of-{worlds[-1]} … part{worlds[-1] - 1}-of-{worlds[-1]}"
        yield Finding("DIR-014", "ranks", found, wanted)


@rule("DIR-015")
def part_has_one_weights_file(ck: Context) -> Iterator[Finding]:
    """Of the descriptions DIR-002 speaks."""
    count = len(ck.checkpoint.shards)
    if count > 1 or (ck.where == "part" and not count):
        found = _some([shard.name for shard in ck.checkpoint.shards]) or "no weights file"
        yield Finding("DIR-015", "files", found, "one weights file", file=ck.prefix)


@rule("DIR-016", on=ROOT, needs_tp=True)
def parts_go_with_tp(ck: Context) -> Iterator[Finding]:
    worlds = {part.world for part in ck.checkpoint.parts}
    if worlds and worlds != {ck.tp}:
        found = f"{'/'.join(map(str, sorted(worlds)))} parts, --tp {ck.tp}"
        works = f"works --tp {min(worlds)}" if len(worlds) == 1 else f"{ck.tp} parts"
        yield Finding("DIR-016", "tp", found, works)


@rule("DIR-017", on=ROOT)
def config_of_parts_names_the_compressed_type(ck: Context) -> Iterator[Finding]:
    config = ck.checkpoint.config
    quantize = config.value.get("quantize") if config else None
    if ck.checkpoint.parts and quantize not in _COMPRESSED:
        yield Finding(
            "DIR-017", "quantize", f"quantize {clip(quantize)}", "absent, w8a8sc or w16a16sc",
            file="config.json",
        )  # fmt: skip


@rule("DIR-018")
def sharded_state_has_every_rank(ck: Context) -> Iterator[Finding]:
    matches = [m for s in ck.checkpoint.shards if (m := RANK_SHARD.fullmatch(s.name))]
    ranks = sorted(int(m[1]) for m in matches)
    if matches and (any(int(m[2]) for m in matches) or ranks != list(range(len(ranks)))):
        found = _some([m[0] for m in matches])
        yield Finding("DIR-018", "ranks", found, "model-rank-0-part-0 … without a gap")


@rule("DIR-019", on=ROOT)
def offline_metadata_has_its_form(ck: Context) -> Iterator[Finding]:
    file = ck.checkpoint.sharded_metadata
    if file is None:
        return
    for defect in file.defects:
        yield Finding("DIR-019", defect.code, defect.found, defect.expected, file=file.name)
    if not isinstance(file.value, dict):
        return
    parallel, world = file.value.get("parallel_option"), file.value.get("world_size")
    if not as_count(world):
        yield Finding("DIR-019", "world_size", f"world_size {clip(world)}", "an integer above 0")
    if not isinstance(parallel, dict) or any(not as_count(parallel.get(s)) for s in _SIZES):
        found = f"parallel_option {clip(parallel)}"
        yield Finding("DIR-019", "parallel_option", found, f"integers {', '.join(_SIZES)}")
    sharded = file.value.get("model_sharded")
    if not isinstance(sharded, dict):
        yield Finding("DIR-019", "model_sharded", f"model_sharded {clip(sharded)}", "an object")
    else:
        yield from _absent_files(ck, sharded)


def _absent_files(ck: Context, sharded: dict[str, Any]) -> Iterator[Finding]:
    """Listed files that their folder does not have; absent folders are DIR-020's."""
    present = {f.name for f in ck.checkpoint.files if f.is_directory}
    for folder, files in sharded.items():
        if not is_safe_name(folder) or not isinstance(files, list):
            found = f"{clip(folder)}: {clip(files)}"
            yield Finding("DIR-019", "entry", found, "the name of a folder and a list of its files")
        elif folder in present:
            try:
                there = {entry.name for entry in list_directory(ck.checkpoint.path / folder)}
            except CheckpointError:
                there = set()
            absent = [clip(name) for name in files if not _among(name, there)]
            if absent:
                found = f"{folder} without {_some(absent)}"
                yield Finding("DIR-019", "files", found, "every listed file")


def _among(name: Any, there: set[str]) -> bool:
    return isinstance(name, str) and name in there


@rule("DIR-020", on=ROOT)
def offline_folders_exist(ck: Context) -> Iterator[Finding]:
    file = ck.checkpoint.sharded_metadata
    value = file.value if file and isinstance(file.value, dict) else {}
    sharded, parallel = value.get("model_sharded"), value.get("parallel_option")
    if not isinstance(sharded, dict) or not sharded:
        return
    present = {f.name for f in ck.checkpoint.files if f.is_directory}
    absent = sorted(name for name in sharded if is_safe_name(name) and name not in present)
    if absent:
        yield Finding("DIR-020", "absent", f"no {_some(absent)}", "every listed folder")
    if _NORM not in sharded:
        yield Finding("DIR-020", "norm", f"no {_NORM}", _NORM)
    counts = {
        "": as_count(value.get("world_size")),
        "attn-tp-": as_count(parallel.get("tp")) if isinstance(parallel, dict) else None,
        "dense-tp-": None,
    }
    for family, wanted in counts.items():
        matches = (_FOLDER.fullmatch(name) for name in sharded)
        numbers = sorted(int(m[2]) for m in matches if m and m[1] == family)
        count = len(numbers) if wanted is None else wanted
        if len(numbers) != count or numbers != list(range(len(numbers))):
            found = f"model-{family}NNN: {_some([str(n) for n in numbers]) or 'none'}"
            yield Finding("DIR-020", family or "rank", found, f"0 to {count - 1}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")

"""IDX: the safetensors files and their index."""

import re
from collections.abc import Iterator
from itertools import groupby

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.registry import rule
from slimspec.checkpoint import Defect, SafetensorsIndex
from slimspec.checkpoint.index import is_safe_name

_SHARD = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5,})-of-(?P<total>\d{5,})\.safetensors")
FLOAT_INDEX = "model.safetensors.index.json"  # the name that the engines look for


@rule("IDX-001")
def files_are_safetensors(ck: Context) -> Iterator[Finding]:
    for shard in ck.checkpoint.shards:
        for code, defects in groupby(shard.defects, key=lambda defect: defect.code):
            first, *others = defects
            yield _container(ck, code, first, others)


def _container(ck: Context, code: str, first: Defect, others: list[Defect]) -> Finding:
    tensors = tuple(d.tensor for d in (first, *others) if d.tensor is not None)
    return Finding(
        "IDX-001", code, first.found, first.expected, tensors, file=ck.prefix + first.file
    )


@rule("IDX-002")
def index_goes_with_shards(ck: Context) -> Iterator[Finding]:
    wanted = {f"{prefix}.safetensors.index.json" for prefix in _sharded(ck)}
    present = {index.name for index in ck.checkpoint.indexes}
    for name in sorted(wanted - present):
        near = f"; other index: {', '.join(sorted(present))}" if present else ""
        yield Finding("IDX-002", "missing", f"no {name}{near}", f"{name} beside the shards")
    if wanted:
        for name in sorted(present - wanted - {FLOAT_INDEX}):
            yield Finding(
                "IDX-002", "name", f"an index named {name}", " or ".join(sorted(wanted)), file=name
            )


@rule("IDX-003")
def index_lists_every_tensor(ck: Context) -> Iterator[Finding]:
    for index in _own_indexes(ck) if ck.readable else ():
        if index.name in ck.full_indexes:
            continue
        stored = set(ck.checkpoint.table.names)
        unlisted = tuple(sorted(stored - index.weight_map.keys()))
        if unlisted:
            found = f"{len(unlisted)} stored tensors are not in the index"
            yield Finding("IDX-003", "unlisted", found, "every tensor", unlisted, index.name)
        absent = tuple(
            sorted(
                name
                for name, file in index.weight_map.items()
                if name not in stored and file in ck.checkpoint.table.files
            )
        )
        if absent:
            found = f"{len(absent)} listed tensors are in no file"
            yield Finding("IDX-003", "absent", found, "stored tensors only", absent, index.name)


@rule("IDX-004")
def index_names_the_right_files(ck: Context) -> Iterator[Finding]:
    table = ck.checkpoint.table
    present = set(table.files)
    for index in _own_indexes(ck):
        unsafe = {file for file in index.files if not is_safe_name(file)}  # SEC-001
        for file in sorted(set(index.files) - present - unsafe):
            tensors = _listed_in(index, file)
            yield Finding(
                "IDX-004", "absent", f"{file}, which is not there", "a file of the directory",
                tensors, index.name,
            )  # fmt: skip
        yield from _misplaced(ck, index, present)


def _misplaced(ck: Context, index: SafetensorsIndex, present: set[str]) -> Iterator[Finding]:
    table = ck.checkpoint.table
    if index.name in ck.full_indexes:
        return
    for name, file in index.weight_map.items():
        row = table.find(name)
        if row is None or file not in present or table.file(row) == file:
            continue
        if name not in table.duplicates:
            found = f"listed in {file}, stored in {table.file(row)}"
            yield Finding("IDX-004", "elsewhere", found, "the file that holds it", (name,), file)


@rule("IDX-005")
def shards_are_complete(ck: Context) -> Iterator[Finding]:
    for prefix, shards in _sharded(ck).items():
        totals = {total for _, total in shards}
        numbers = sorted(number for number, _ in shards)
        if 0 in totals:
            yield Finding(
                "IDX-005", "interrupted", f"{prefix}-…-of-00000.safetensors",
                "the final number of shards; the writer sets it when it closes",
                file=f"{prefix}-{numbers[0]:05d}-of-00000.safetensors",
            )  # fmt: skip
        elif len(totals) > 1:
            said = ", ".join(map(str, sorted(totals)))
            yield Finding("IDX-005", "totals", f"shards of {said}", "one total", file=prefix + "-*")
        elif numbers != list(range(1, max(totals) + 1)):
            missing = sorted(set(range(1, max(totals) + 1)) - set(numbers))
            found = f"{len(numbers)} shards, without number {', '.join(map(str, missing))}"
            yield Finding(
                "IDX-005", "numbers", found, f"1 to {max(totals)}", file=f"{prefix}-*.safetensors"
            )


@rule("IDX-006")
def total_size_is_exact(ck: Context) -> Iterator[Finding]:
    table = ck.checkpoint.table
    sound = not any(shard.defects for shard in ck.checkpoint.shards)
    for index in _own_indexes(ck) if sound else ():
        if index.total_size is None:
            continue
        if index.name in ck.full_indexes:
            size = table.nbytes
        else:
            rows = [row for name in index.weight_map if (row := table.find(name)) is not None]
            size = int(table.sizes[rows].sum())
        if size != index.total_size:
            yield Finding(
                "IDX-006", "size", f"total_size {index.total_size}", str(size), file=index.name
            )


@rule("IDX-007")
def index_has_its_form(ck: Context) -> Iterator[Finding]:
    for index in ck.checkpoint.indexes:
        broken = [d for d in index.defects if d.code != "index-file-name"]  # IDX-004
        for defect in broken:
            yield Finding("IDX-007", defect.code, defect.found, defect.expected, file=index.name)
        if index.form == "flat" and not broken:
            yield Finding(
                "IDX-007", "flat", "a flat map of tensor to file",
                "an object with metadata and weight_map", file=index.name,
            )  # fmt: skip


@rule("IDX-008")
def no_index_without_shards(ck: Context) -> Iterator[Finding]:
    if _sharded(ck):
        return
    for index in ck.checkpoint.indexes:
        if index.name != FLOAT_INDEX:
            yield Finding(
                "IDX-008", "useless", "an index", "none: the weights are not sharded",
                file=index.name,
            )  # fmt: skip


def _sharded(ck: Context) -> dict[str, list[tuple[int, int]]]:
    """Prefix -> (number, total) of every sharded quantized weights file."""
    found: dict[str, list[tuple[int, int]]] = {}
    for shard in ck.checkpoint.shards:
        match = _SHARD.fullmatch(shard.name)
        if match and match["prefix"].startswith("quant_model_weight"):
            numbers = (int(match["number"]), int(match["total"]))
            found.setdefault(match["prefix"], []).append(numbers)
    return found


def _own_indexes(ck: Context) -> list[SafetensorsIndex]:
    """Indexes of the quantized shards (a foreign one is DIR-010's, an unreadable one IDX-007's)."""
    prefixes = _sharded(ck)
    return [
        index
        for index in ck.checkpoint.indexes
        if index.prefix in prefixes and index.weight_map and not _misshapen(index)
    ]


def _misshapen(index: SafetensorsIndex) -> bool:
    return any(defect.code == "index-shape" for defect in index.defects)


def _listed_in(index: SafetensorsIndex, file: str) -> tuple[str, ...]:
    return tuple(name for name, listed in index.weight_map.items() if listed == file)

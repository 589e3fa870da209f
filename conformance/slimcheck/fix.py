"""Mechanical repairs: what a program can mend without knowing anything that is not in the files.

A repair rewrites or leaves out a JSON file; no tensor is ever touched, and the directory itself
stays as it is: the repaired checkpoint is a new directory. Only what the judge objects to is
repaired, and each repair answers for the requirement ids that it is to satisfy.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slimcheck.engine import Options, Result, Status, judge
from slimcheck.layouts import FLOATS, rules_of
from slimspec.checkpoint import Checkpoint, CheckpointError, Description, SafetensorsIndex
from slimspec.checkpoint.config import TEXT_PATHS
from slimspec.checkpoint.index import SUFFIX
from slimspec.layout import profiles
from slimspec.patterns import collapse

FLOAT_INDEX = "model.safetensors.index.json"
_STALE_CONFIG = ("CFG-011", "DIR-023")
_INDEX = ("IDX-002", "IDX-003", "IDX-004", "IDX-006", "IDX-007")
_USELESS = ("DIR-010", "DIR-024", "IDX-008")
REPAIRABLE = (*_STALE_CONFIG, "DESC-020", *_INDEX, *_USELESS)
_BLOCKERS = ("IDX-001", "IDX-005", "DIR-008", "DIR-009")  # an index built then would hide a loss
Failed = Mapping[str, Result]


@dataclass(frozen=True)
class Edit:
    """One file of the new directory that is not as it was."""

    file: str  # relative to the directory
    what: str  # one line
    ids: tuple[str, ...]  # requirements that it is to satisfy
    content: bytes | None  # None = the file is left out


@dataclass(frozen=True)
class Plan:
    """Edits, and what is wrong but no matter for a program."""

    edits: tuple[Edit, ...]
    left: tuple[str, ...]  # ids that stay violated


def plan(checkpoint: Checkpoint, producer: str | None = None) -> Plan:
    """Return the edits that would mend what can be mended. Nothing is written."""
    results = judge(checkpoint, Options(level="layout", producer=producer))
    failed = {r.requirement.id: r for r in results if r.status is Status.FAILED}
    profile = producer or checkpoint.profile.name or ""
    edits: list[Edit] = []
    for repair in (_config, _description, _index, _without_index):
        edits += repair(checkpoint, failed, profile)
    merged = _merge(edits)
    repaired = {key for edit in merged for key in edit.ids}
    left = [r.requirement.id for r in results if r.counts and r.requirement.id not in repaired]
    return Plan(tuple(merged), tuple(left))


def _merge(edits: list[Edit]) -> list[Edit]:
    """One edit per file: of two that leave a file out, the first speaks for both."""
    by_file: dict[str, Edit] = {}
    for edit in edits:
        known = by_file.get(edit.file)
        if known is None:
            by_file[edit.file] = edit
        else:
            by_file[edit.file] = replace(known, ids=tuple(dict.fromkeys((*known.ids, *edit.ids))))
    return list(by_file.values())


def _config(checkpoint: Checkpoint, failed: Failed, profile: str) -> Iterator[Edit]:
    """config.json without quantization_config, at the top and in nested configurations."""
    config, ids = checkpoint.config, _hit(failed, _STALE_CONFIG)
    if not ids or config is None or config.duplicates or not config.quantization_configs:
        return
    value, gone = config.value, []
    for path in TEXT_PATHS:
        value, found = _without(value, path, "quantization_config")
        gone += [".".join((*path, "quantization_config"))] if found else []
    yield Edit(config.name, f"delete {', '.join(gone)}", ids, _dump(value, 2))


def _without(node: Any, path: tuple[str, ...], key: str) -> tuple[Any, bool]:
    """A copy of nested objects without the member `key` of the object at `path`."""
    if not isinstance(node, dict):
        return node, False
    if not path:
        return {k: v for k, v in node.items() if k != key}, key in node
    if path[0] not in node:
        return node, False
    inner, found = _without(node[path[0]], path[1:], key)
    return {**node, path[0]: inner}, found


def _description(checkpoint: Checkpoint, failed: Failed, profile: str) -> Iterator[Edit]:
    """FLOAT entries for float tensors that have none, in each description."""
    if "DESC-020" not in failed:
        return
    names = {name for group in failed["DESC-020"].groups for name in group.tensors}
    for prefix, holder in _holders(checkpoint):
        description = holder.description
        if description is None or description.duplicates or not description.readable:
            continue
        missing = [n for n in holder.table.names if n in names and n not in description.labels]
        stored = _suffixes(holder)
        plain = [n for n in missing if _is_plain_float(holder, description, stored, n, profile)]
        if plain:
            content = _dump(_described(description, plain), 2)
            what = f"add {len(plain)} entries FLOAT: {collapse(plain)}"
            ids = ("DESC-020",) if len(plain) == len(missing) else ()
            yield Edit(prefix + description.name, what, ids, content)


def _is_plain_float(
    holder: Checkpoint,
    description: Description,
    stored: Mapping[str, set[str]],
    name: str,
    profile: str,
) -> bool:
    """Whether FLOAT can be the only right label: a float weight or bias that nothing quantizes.

    A bias beside a quantized weight counts where the layout of that weight gives it FLOAT.
    """
    module, _, suffix = name.rpartition(".")
    row = holder.table.index(name)
    if suffix not in ("weight", "bias") or holder.table.dtype(row) not in FLOATS:
        return False
    own = description.labels.get(f"{module}.weight" if module else "weight")
    if suffix == "bias" and own is not None and own != "FLOAT":
        rule = (rules_of(own, profile) or {}).get("bias")
        return rule is not None and rule.accepts_label("FLOAT", own)
    siblings = stored[module]
    labels = {description.labels.get(f"{module}.{s}" if module else s) for s in siblings}
    return siblings <= {"weight", "bias"} and labels <= {None, "FLOAT"}


def _suffixes(holder: Checkpoint) -> dict[str, set[str]]:
    """Module -> suffixes of its stored tensors."""
    stored: dict[str, set[str]] = {}
    for name in holder.table.names:
        module, _, suffix = name.rpartition(".")
        stored.setdefault(module, set()).add(suffix)
    return stored


def _described(description: Description, names: list[str]) -> dict[str, Any]:
    """All members with the new entries: after the old ones, metadata where it was."""
    entries = {**description.labels, **description.other, **dict.fromkeys(names, "FLOAT")}
    first = next(iter(_members(description)), None)
    if first in description.metadata:
        return {**description.metadata, **entries}
    return {**entries, **description.metadata}


def _members(description: Description) -> dict[str, Any]:
    try:
        value = json.loads(description.path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{description.name}: cannot be read again: {error}") from None
    return value if isinstance(value, dict) else {}


def _index(checkpoint: Checkpoint, failed: Failed, profile: str) -> Iterator[Edit]:
    """The index of the quantized shards, built from their headers."""
    ids = _hit(failed, _INDEX)
    prefixes = sorted({p for s in checkpoint.shards if (p := _shard_prefix(s.name))})
    if not ids or len(prefixes) != 1 or _hit(failed, _BLOCKERS) or checkpoint.parts:
        return
    name, table = prefixes[0] + SUFFIX, checkpoint.table
    if any(shard.defects for shard in checkpoint.shards):
        return
    old = next((index for index in checkpoint.indexes if index.name == name), None)
    metadata = {**(old.metadata if old else {}), "total_size": table.nbytes}
    weight_map = {tensor: table.file(row) for row, tensor in enumerate(table.names)}
    content = _dump({"metadata": metadata, "weight_map": weight_map}, 2)
    what = f"build from the headers of {len(checkpoint.shards)} files: {_changes(old, weight_map)}"
    yield Edit(name, f"{what}, total_size {table.nbytes}", ids, content)
    for index in checkpoint.indexes:
        if index.name not in (name, FLOAT_INDEX):
            yield Edit(index.name, f"leave out: the index is {name}", ids, None)


def _changes(old: SafetensorsIndex | None, new: Mapping[str, str]) -> str:
    if old is None:
        return f"{len(new)} tensors"
    added = sum(name not in old.weight_map for name in new)
    removed = sum(name not in new for name in old.weight_map)
    moved = sum(name in new and new[name] != file for name, file in old.weight_map.items())
    return f"{added} tensors added, {removed} removed, {moved} with another file"


def _shard_prefix(name: str) -> str:
    """What stands before the numbers of a quantized shard; "" for any other name."""
    numbered = profiles.shard(name) is not None and name.startswith("quant_model_weight")
    return name.rsplit("-", 3)[0] if numbered else ""


def _without_index(checkpoint: Checkpoint, failed: Failed, profile: str) -> Iterator[Edit]:
    """Leave out indexes of other weights, or of weights that have none."""
    stored = set(checkpoint.table.files)
    for key in _hit(failed, _USELESS):
        named = {name for group in failed[key].groups for name in group.files}
        for index in checkpoint.indexes:
            foreign = stored.isdisjoint(index.files)
            if index.name in named and (key != "DIR-010" or foreign):
                yield Edit(index.name, "leave out: it is no index of these weights", (key,), None)


def _hit(failed: Failed, ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in ids if key in failed)


def _holders(checkpoint: Checkpoint) -> list[tuple[str, Checkpoint]]:
    """(prefix of file names, directory that holds weights)."""
    if not checkpoint.parts:
        return [("", checkpoint)]
    return [(part.name + "/", part.checkpoint) for part in checkpoint.parts]


def _dump(value: Any, indent: int) -> bytes:
    return (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode()


def still_failing(checkpoint: Checkpoint, edits: Sequence[Edit], producer: str | None) -> set[str]:
    """Ids that the edits were to satisfy and that the judge still objects to."""
    wanted = {key for edit in edits for key in edit.ids}
    results = judge(checkpoint, Options(level="layout", producer=producer))
    return {r.requirement.id for r in results if r.status is Status.FAILED} & wanted

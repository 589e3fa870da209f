"""TP: biases that were divided, and parts that were cut differently; elements."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from slimcheck.context import Context
from slimcheck.described import as_count
from slimcheck.findings import Finding
from slimcheck.registry import ROOT, rule, value_rule
from slimcheck.rules.tp import split_of
from slimcheck.values.modules import Module
from slimspec.pipeline.shard_map import ShardMap, last, row_parallel, shard_maps
from slimspec.schemes.w8a8 import folded_bias

if TYPE_CHECKING:
    from slimspec.checkpoint import Checkpoint

_RANKS = (2, 4, 8, 16, 32, 64)
_READ_HIDDEN = frozenset({"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"})


@value_rule("TP-006")
def bias_is_not_divided(ck: Context, module: Module) -> Iterator[Finding]:
    """Divided, every element is within 1 of the N-th part of the right one."""
    split, sums = split_of(module.name), module.row_sum
    spec = module.cls.tensors.get("quant_bias")
    offset, bias = module.numbers("input_offset"), module.numbers("bias")
    scale = np.ones(1, np.float32) if bias is None else module.deq_scale
    if split is None or split.split != "columns" or spec is None or spec.dtype != "I32":
        return
    if sums is None or spec.shape != sums.shape or offset is None or offset.shape != (1,):
        return
    if not np.isfinite(offset).all() or (bias is not None and bias.shape != sums.shape):
        return
    if scale is None or scale.shape not in ((1,), sums.shape):
        return
    stored = module.array("quant_bias").astype(np.float64)
    whole = folded_bias(sums, offset, bias, scale, np.float32).astype(np.float64)
    for ranks in _RANKS:
        tells = np.abs(whole).max(initial=0) > 4 * ranks
        if tells and (np.abs(stored - whole / ranks) <= 1).all():
            name = (module.tensor("quant_bias"),)
            found = f"1/{ranks} of bias / deq_scale - Σ weight · input_offset"
            yield Finding(
                "TP-006", "divided", found, "the whole of it", name, module.file("quant_bias")
            )


@rule("TP-007", on=ROOT, reads=True)
def parts_are_cut_alike(ck: Context) -> Iterator[Finding]:
    """Of the parts that are asked for, each beside the first."""
    parts = ck.checkpoint.parts
    config = ck.checkpoint.config
    hidden = as_count(config.get("hidden_size")) if config else None
    asked = [part for part in parts if part.checkpoint.asked]
    sizes = _sizes(parts[0].checkpoint) if asked else {}
    for part in asked:
        for module, (n, k) in (sizes if part is parts[0] else _sizes(part.checkpoint)).items():
            first = sizes.get(module, (n, k))
            if (n, k) != first:
                found = f"n, k = {n}, {k} in {part.name}"
                expected = f"n, k = {first[0]}, {first[1]}, as in {parts[0].name}"
                yield _about(module, "differs", found, expected, part.name)
            elif part is parts[0] and hidden:
                width = 2 if _label(part.checkpoint, module) == "W16A16SC" else 1
                for what, size, want in _whole(module, n, k, hidden, width):
                    if size != want:
                        expected = f"{want}, the hidden size"
                        yield _about(module, "hidden", f"{what} = {size}", expected, part.name)


def _about(module: str, kind: str, found: str, expected: str, part: str) -> Finding:
    return Finding("TP-007", kind, found, expected, (f"{module}.info",), f"{part}/")


def _label(part: "Checkpoint", module: str) -> str | None:
    return part.description.labels.get(f"{module}.weight") if part.description else None


def _sizes(part: "Checkpoint") -> dict[str, tuple[int, int]]:
    """Module -> n, k of its info (k in bytes)."""
    table = part.table
    found = {}
    for row, name in table.firsts():
        if name.endswith(".info") and table.dtype(row) == "I64" and table.shape(row) == (5,):
            info = part.tensor(name)
            found[name.removesuffix(".info")] = (int(info[3]), int(info[2]))
    return found


def _whole(module: str, n: int, k: int, hidden: int, width: int) -> Iterator[tuple[str, int, int]]:
    """What of a linear must be the whole hidden size: (name, size, hidden size)."""
    shards = _map_of(module)
    name = f"{module}.weight"
    original = last((shards.restore(name) if shards else name).removesuffix(".weight"))
    members = shards.fuse.get(original, (original,)) if shards else (original,)
    if _READ_HIDDEN.issuperset(members):
        yield "k", k, hidden * width
    elif all(map(row_parallel, members)):
        yield "n", n, hidden


def _map_of(module: str) -> ShardMap | None:
    """The engine whose name this is; None for a name of the float model."""
    maps = shard_maps().values()
    return next((found for found in maps if found.recognises(f"{module}.weight")), None)

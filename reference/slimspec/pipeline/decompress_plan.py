"""Read part directories, and find out what each of their modules was before the split.

A part says neither how large a linear was nor which names it uses: the head counts come from
config.json, the names from the tensors themselves.

Source: formats.md 1.5, 5.5 TP, 5.12 SC-018, SC-019.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slimspec.checkpoint import Checkpoint, CheckpointError, Config, open_checkpoint
from slimspec.checkpoint.errors import clip

from .compress_source import refuse_defects
from .shard_map import PLAIN, ModuleRule, ShardMap, choose_map, last, shard_maps
from .shard_plan import SPARSE, Heads, Member, by_module, heads_of
from .shard_split import Block, even_blocks

DENSE = {compressed: sparse for sparse, compressed in SPARSE.items()}
TILES = ("weight", "index", "info")


@dataclass(frozen=True)
class Parts:
    """The parts of one checkpoint, by rank.

    Attributes:
        root: the directory with config.json.
        ranks: one checkpoint per rank; all have the same tensors and labels.
        quant_type: "W8A8SC" or "W16A16SC".
        labels: the description of rank 0.
    """

    root: Checkpoint
    ranks: tuple[Checkpoint, ...]
    quant_type: str
    labels: Mapping[str, str]

    @property
    def config(self) -> Config | None:
        """config.json of the root."""
        return self.root.config

    def place(self, rank: int, name: str) -> str:
        """Where a tensor lies, for messages."""
        found = self.ranks[rank]
        row = found.table.find(name)
        file = "" if row is None else f"{clip(found.table.file(row))}: "
        return f"{clip(str(found.path))}: {file}tensor {clip(name, 120)!r}"


@dataclass(frozen=True)
class Source:
    """One module of the parts, and the modules of the float model it holds.

    `widths[i][rank]` is how many rows of a fused module belong to member i.
    """

    module: str
    suffixes: tuple[str, ...]
    members: tuple[Member, ...]
    widths: tuple[tuple[int, ...], ...]
    tiled: bool


def open_parts(path: str | Path) -> Parts:
    """Open a directory of parts, or one part by itself.

    Raises:
        CheckpointError: unreadable, defective, incomplete, or parts that do not belong together.
    """
    root = open_checkpoint(path)
    where = clip(str(path))
    if root.parts:
        worlds = {part.world for part in root.parts}
        numbers = [part.rank for part in root.parts]
        if len(worlds) != 1 or numbers != list(range(worlds.pop())):
            found = ", ".join(part.name for part in root.parts[:6])
            raise CheckpointError(
                f"{where}: found {clip(found)}, expected part0-of-N to part(N-1)-of-N"
            )
        ranks = tuple(part.checkpoint for part in root.parts)
    elif root.profile.name == "SC":
        ranks = (root,)
    else:
        raise CheckpointError(f"{where}: found a {root.kind} directory, expected part directories")
    for checkpoint in dict.fromkeys((root, *ranks)):
        refuse_defects(checkpoint)
    return _together(root, ranks)


def _together(root: Checkpoint, ranks: tuple[Checkpoint, ...]) -> Parts:
    labels: Mapping[str, str] = {}
    quant_type = None
    for checkpoint in ranks:
        where = clip(str(checkpoint.path))
        description = checkpoint.description
        if description is None:
            raise CheckpointError(f"{where}: found no description, expected one")
        stated = description.get("model_quant_type")
        if stated not in DENSE or quant_type not in (None, stated):
            wanted = quant_type or " or ".join(DENSE)
            raise CheckpointError(f"{where}: found type {clip(stated)}, expected {wanted}")
        if checkpoint is ranks[0]:
            quant_type, labels = stated, description.labels
        names = set(checkpoint.table.names) ^ set(ranks[0].table.names)
        if names or description.labels != labels:
            odd = clip(min(names), 120) if names else "a label"
            raise CheckpointError(f"{where}: {odd!r} differs from {clip(str(ranks[0].path))}")
    assert quant_type is not None
    return Parts(root, ranks, quant_type, labels)


def find_map(parts: Parts, consumer: str | None) -> ShardMap:
    """Return the map whose names the parts use, or that of the consumer asked for.

    Raises:
        CheckpointError: several would fit, or the consumer has none for the model.
    """
    model_type = parts.config.model_type if parts.config else None
    if consumer is not None:
        return choose_map(consumer, model_type)
    names = parts.ranks[0].table.names
    found = [
        shards
        for shards in shard_maps().values()
        if (model_type is None or model_type in shards.model_types)
        and any(map(shards.recognises, names))
    ]
    if len(found) > 1:
        several = ", ".join(shards.name for shards in found)
        raise CheckpointError(f"{clip(str(parts.root.path))}: the names fit {several}: state which")
    return found[0] if found else choose_map(PLAIN, model_type)


def plan_sources(parts: Parts, shards: ShardMap) -> list[Source]:
    """Return the modules of the parts, in the order of the description.

    Raises:
        CheckpointError: shapes that no split gives.
    """
    first = parts.ranks[0]
    described = [name for name in parts.labels if name in first.table]
    heads = heads_of(parts.config, pad=True)
    modules = by_module(list(dict.fromkeys([*described, *first.table.names])))
    return [_source(parts, shards, heads, m, tuple(s)) for m, s in modules.items()]


def _source(
    parts: Parts, shards: ShardMap, heads: Heads | None, module: str, suffixes: tuple[str, ...]
) -> Source:
    name = f"{module}.{suffixes[0]}" if module else suffixes[0]
    tiled = parts.labels.get(f"{module}.weight") in DENSE
    if tiled and (missing := [s for s in TILES if s not in suffixes]):
        raise CheckpointError(f"{parts.place(0, f'{module}.{missing[0]}')} is missing")
    restored = _restored(module, shards)
    shapes = [_shape(parts, rank, module, suffixes, tiled) for rank in range(len(parts.ranks))]
    try:
        members, widths = _members(restored, shapes, shards, heads)
    except ValueError as error:
        raise CheckpointError(f"{parts.place(0, name)}: {error}") from None
    return Source(module, suffixes, members, widths, tiled)


def _restored(module: str, shards: ShardMap) -> list[str]:
    """Names in the float model of what a module of the parts holds."""
    if last(module) in shards.fuse:
        parent = module.rpartition(".")[0]
        inside = shards.restore(f"{parent}.x").rpartition(".")[0]
        return [f"{inside}.{name}" for name in shards.fuse[last(module)]]
    return [shards.restore(f"{module}.x").rpartition(".")[0]] if module else [""]


def _shape(
    parts: Parts, rank: int, module: str, suffixes: Sequence[str], tiled: bool
) -> tuple[int, ...]:
    """Shape of a module's weight in one part, of the tensor standing for it if it has none."""
    table = parts.ranks[rank].table
    if not tiled:
        main = "weight" if "weight" in suffixes else suffixes[0]
        return table.shape(table.index(f"{module}.{main}" if module else main))
    info = parts.ranks[rank].tensor(f"{module}.info")
    if info.shape != (5,) or info.dtype.kind != "i":
        found = f"{info.dtype} {list(info.shape)}"
        raise CheckpointError(
            f"{parts.place(rank, f'{module}.info')}: found {found}, expected I64 [5]"
        )
    k, n = int(info[2]), int(info[3])
    return n, k // 2 if parts.quant_type == "W16A16SC" else k


def _members(
    modules: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    shards: ShardMap,
    heads: Heads | None,
) -> tuple[tuple[Member, ...], tuple[tuple[int, ...], ...]]:
    rules = [shards.rule(module) for module in modules]
    rule = rules[0]
    whole = rule is None or rule.split == "replicated" or (shapes[0] or (0,))[0] < rule.from_rows
    if rule is None or whole:
        return tuple(Member(m, "replicated") for m in modules), ()
    axis = 1 if rule.split == "columns" else 0
    if any(len(shape) <= axis for shape in shapes):
        raise ValueError(f"found shape {list(shapes[0])}, expected a matrix")
    totals = [shape[axis] for shape in shapes]
    blocks = _blocks([r for r in rules if r is not None], totals, heads)
    members = (Member(m, rule.split, tuple(b)) for m, b in zip(modules, blocks, strict=True))
    return tuple(members), tuple(tuple(block.width for block in b) for b in blocks)


def _blocks(
    rules: Sequence[ModuleRule], totals: Sequence[int], heads: Heads | None
) -> list[list[Block]]:
    """Blocks of the members of a module whose ranks have `totals` rows or columns.

    Raises:
        ValueError: no split gives these.
    """
    ranks, count = len(totals), len(rules)
    by = [rule.by for rule in rules]
    if heads is None and count > 1 and any(by):
        raise ValueError("attention heads were fused: config.json with their numbers is needed")
    if heads is None or not all(by):
        if len(set(totals)) > 1 or totals[0] % count:
            raise ValueError(f"ranks hold {', '.join(map(str, totals))}, expected equal shares")
        return [even_blocks(totals[0] // count * ranks, ranks) for _ in rules]
    units = [heads.blocks(name, ranks) for name in by if name]
    sums = [sum(b[rank].width for b in units) for rank in range(ranks)]
    sizes = {divmod(total, size) for total, size in zip(totals, sums, strict=True)}
    unit, rest = sizes.pop()
    if sizes or rest or not unit:
        raise ValueError(
            f"ranks hold {', '.join(map(str, totals))}, expected whole heads: "
            f"{', '.join(map(str, sums))}"
        )
    return [[block.scaled(unit) for block in member] for member in units]

"""The plan of a split: which modules go together, under which name, and what each rank holds.

A static linear is split with its weight: column-parallel on n, where the per-row tensors follow
and the per-tensor ones repeat; row-parallel on k, where rank 0 alone holds the biases, because the
ranks' results are summed. Everything else repeats in every part.

Source: formats.md 1.5, 5.5 TP-006, 5.12; math.md 4.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError, Config, Tensor
from slimspec.checkpoint.errors import clip

from .shard_map import ShardMap, Split
from .shard_split import Block, cut, even_blocks, join, kv_blocks, query_blocks

AnyArray = NDArray[Any]
SPARSE = {"W8A8S": "W8A8SC", "W16A16S": "W16A16SC"}
PER_TENSOR = ("input_scale", "input_offset")
ADDED_ONCE = ("quant_bias", "bias")
LINEAR = ("weight", *PER_TENSOR, "quant_bias", "deq_scale", "bias")
_HEADS = "num_attention_heads"
_KV_HEADS = "num_key_value_heads"


@dataclass(frozen=True)
class Heads:
    """Attention and key/value heads of the model; how a split may treat them."""

    attention: int
    kv: int
    pad: bool = False

    def blocks(self, by: str, ranks: int) -> list[Block]:
        """Return the blocks, in heads, of modules whose rule names the count `by`."""
        rule = kv_blocks if by == _KV_HEADS else query_blocks
        return rule(self.attention, self.kv, ranks, pad=self.pad)


@dataclass(frozen=True)
class Member:
    """One module of the float model and what each rank holds of it (None: all of it)."""

    module: str
    split: Split
    blocks: tuple[Block, ...] | None = None

    def cut(self, suffix: str, array: AnyArray, rank: int) -> AnyArray:
        """Return what a rank holds of one tensor."""
        if self.split == "columns" and suffix in ADDED_ONCE and rank:
            return np.zeros_like(array)
        axis = self._axis(suffix)
        if axis is None or self.blocks is None:
            return array
        return cut(array, self.blocks[rank], axis)

    def join(self, suffix: str, parts: Sequence[AnyArray]) -> AnyArray:
        """Return one tensor of the float model from what the ranks hold.

        Raises:
            ValueError: the ranks contradict each other.
        """
        if self.split == "columns" and suffix in ADDED_ONCE:
            for rank, part in enumerate(parts[1:], 1):
                if part.any():
                    raise ValueError(f"rank {rank} is not zero, so that it would be added again")
            return parts[0]
        axis = self._axis(suffix)
        if axis is not None and self.blocks is not None:
            return join(parts, self.blocks, axis)
        for rank, part in enumerate(parts[1:], 1):
            if (part.dtype, part.shape) != (parts[0].dtype, parts[0].shape) or not same(
                part, parts[0]
            ):
                raise ValueError(f"rank {rank} differs from rank 0, expected the same in all")
        return parts[0]

    def _axis(self, suffix: str) -> int | None:
        """The axis along which the tensor is split; None where it repeats."""
        if self.split == "rows":
            return None if suffix in PER_TENSOR else 0
        return 1 if self.split == "columns" and suffix == "weight" else None


@dataclass(frozen=True)
class Target:
    """Tensors that are written together: the suffixes of one module, or of a fused group."""

    name: str
    members: tuple[Member, ...]
    suffixes: tuple[str, ...]
    label: str | None  # of the weight


def same(a: AnyArray, b: AnyArray) -> bool:
    """True if two arrays have the same bytes, NaN included."""
    return np.array_equal(as_raw(a), as_raw(b))


def as_raw(array: AnyArray) -> NDArray[np.uint8]:
    """Return the bytes of an array, 1-D."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def heads_of(config: Config | None, pad: bool) -> Heads | None:
    """Return the head counts of config.json; None without one.

    Raises:
        CheckpointError: config.json states no usable count.
    """
    if config is None:
        return None
    attention = config.get(_HEADS)
    kv = config.get(_KV_HEADS)
    kv = attention if kv is None else kv
    for key, value in ((_HEADS, attention), (_KV_HEADS, kv)):
        if type(value) is not int or not 0 < value < 1 << 20:
            raise CheckpointError(f"{config.name}: {key}: found {clip(value)}, expected a count")
    if attention % kv:
        found = f"{attention} and {kv}, expected a multiple"
        raise CheckpointError(f"{config.name}: {_HEADS} and {_KV_HEADS}: found {found}")
    return Heads(attention, kv, pad)


def by_module(names: Sequence[str]) -> dict[str, list[str]]:
    """Return module -> suffixes, both in order of appearance."""
    found: dict[str, list[str]] = {}
    for name in names:
        module, _, suffix = name.rpartition(".")
        found.setdefault(module, []).append(suffix)
    return found


def member(
    module: str,
    tensor: Tensor,
    label: str | None,
    shards: ShardMap,
    heads: Heads | None,
    ranks: int,
) -> Member:
    """Return how a module is split; `tensor` is its weight, or the one that stands for it.

    Raises:
        CheckpointError: no rule for a sparse linear, or its size does not divide.
    """
    rule = shards.rule(module)
    if rule is None or rule.split == "replicated" or _first(tensor.shape) < rule.from_rows:
        if rule is None and label in SPARSE:
            raise CheckpointError(
                f"tensor {clip(tensor.name, 120)!r}: names of {shards.consumer} have no "
                "tensor-parallel rule for this module"
            )
        return Member(module, "replicated")
    axis = 1 if rule.split == "columns" else 0
    if len(tensor.shape) <= axis:
        shape = list(tensor.shape)
        raise CheckpointError(
            f"tensor {clip(tensor.name, 120)!r}: found shape {shape}, expected a matrix"
        )
    try:
        blocks = _blocks(rule.by, tensor.shape[axis], heads, ranks)
    except ValueError as error:
        what = f"{rule.split} of {tensor.shape[axis]}"
        raise CheckpointError(f"tensor {clip(tensor.name, 120)!r}: {what}: {error}") from None
    return Member(module, rule.split, blocks)


def _first(shape: tuple[int, ...]) -> int:
    return shape[0] if shape else 0


def _blocks(by: str | None, size: int, heads: Heads | None, ranks: int) -> tuple[Block, ...]:
    if by is None or heads is None:
        return tuple(even_blocks(size, ranks))
    count = heads.kv if by == _KV_HEADS else heads.attention
    if size % count:
        raise ValueError(f"it is no multiple of {by} = {count}")
    return tuple(block.scaled(size // count) for block in heads.blocks(by, ranks))


def plan_targets(
    tensors: Mapping[str, Tensor],
    labels: Mapping[str, str],
    shards: ShardMap,
    heads: Heads | None,
    ranks: int,
) -> list[Target]:
    """Return the targets of a checkpoint, in the order in which its modules appear.

    Args:
        tensors: name -> tensor, in the order wanted.
        heads: None where config.json is absent: then every row may be a boundary.

    Raises:
        CheckpointError: something cannot be split.
    """
    modules = by_module(list(tensors))
    label = {m: labels.get(f"{m}.weight") for m in modules}
    members = {
        m: member(m, tensors[_name(m, _main(suffixes))], label[m], shards, heads, ranks)
        for m, suffixes in modules.items()
    }
    double = _stored_twice(modules)
    targets: list[Target] = []
    done: set[str] = set()
    for module, suffixes in modules.items():
        group = _group(module, modules, label, shards)
        if group and group[0] == module:
            own = tuple(s for s in suffixes if s in LINEAR)
            together = tuple(members[m] for m in group)
            targets.append(Target(_fused_name(group, shards), together, own, label[module]))
        if group:
            done.update(f"{m}.{s}" for m in group for s in modules[m] if s in LINEAR)
        rest = tuple(s for s in suffixes if _name(module, s) not in done)
        if rest:
            renamed = shards.rename(_name(module, "x"), module in double).rpartition(".")[0]
            targets.append(Target(renamed, (members[module],), rest, label[module]))
    return targets


def _stored_twice(modules: Iterable[str]) -> set[str]:
    """Both copies of the norms that outlier suppression stored twice."""
    second = {module for module in modules if module.endswith("norm.module")}
    return second | {module.removesuffix(".module") for module in second}


def _name(module: str, suffix: str) -> str:
    return f"{module}.{suffix}" if module else suffix


def _main(suffixes: Sequence[str]) -> str:
    return "weight" if "weight" in suffixes else suffixes[0]


def _group(
    module: str,
    modules: Mapping[str, list[str]],
    label: Mapping[str, str | None],
    shards: ShardMap,
) -> list[str]:
    """The members that are fused with a module, in order; [] if it stays alone.

    A group whose members have different types or tensors is left alone, as the engine loads it.
    """
    fused = shards.member_of(module)
    if fused is None:
        return []
    parent = module.rpartition(".")[0]
    group = [f"{parent}.{name}" for name in shards.fuse[fused]]
    if any(m not in modules or label[m] != label[module] for m in group):
        return []
    own = {frozenset(modules[m]) & frozenset(LINEAR) for m in group}
    return group if len(own) == 1 else []


def _fused_name(group: Sequence[str], shards: ShardMap) -> str:
    parent = group[0].rpartition(".")[0]
    renamed = shards.rename(f"{parent}.x").rpartition(".")[0]
    return f"{renamed}.{shards.member_of(group[0])}"

"""A sparse directory (W8A8S, W16A16S) to compressed parts, one per tensor-parallel rank.

Each linear is cut, fused and compressed rank by rank in a pool of threads; the main thread writes
the results in order, so that the bytes depend on neither threads nor timing.

Source: formats.md 1.5, 3.2 (W8A8S / W8A8SC, W16A16S / W16A16SC), 5.12;
Ascend/MindIE-LLM/examples/atb_models/examples/convert/model_slim/sparse_compressor.py:77-134;
Ascend/msmodelslim/msmodelslim/pytorch/weight_compression/compress_tools.py:79-165.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import sparse
from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.checkpoint.errors import clip
from slimspec.numeric import to_dtype
from slimspec.schemes.w8a8sc import narrow_offset, narrow_scale
from slimspec.schemes.w16a16sc import outdim

from .compress_source import Loss, SparseSource, measure_losses, open_sparse
from .shard_map import PLAIN, choose_map, last
from .shard_plan import PER_TENSOR, SPARSE, Target, heads_of, plan_targets, same
from .shard_write import NO_VERSION, PartsWriter, pieces

AnyArray = NDArray[Any]
FLOAT16 = np.dtype(np.float16)
_KEPT = ("version", "kv_quant_type", "kv_cache_type", "fa_quant_type", "reduce_quant_type")
_MAX_RANKS = 1 << 10


@dataclass(frozen=True)
class Options:
    """How to compress.

    Attributes:
        tp: number of parts, the tensor-parallel size at run time.
        names: "hf" (names of the float model, nothing fused) or an engine, "mindie".
        pad_heads: give ranks zero heads where the attention heads do not divide.
        keep_inputs: leave input_scale and input_offset as they are, as the compressor of the
            quantizer alone does; otherwise float16 and int8, as the engine's script.
        to_float16: convert a bfloat16 or float32 model.
        threads: workers, by default one per core.
    """

    tp: int = 1
    names: str = PLAIN
    pad_heads: bool = False
    keep_inputs: bool = False
    to_float16: bool = False
    threads: int | None = None


@dataclass
class Summary:
    """What was done: linears, their bytes before and after, and what the parts cannot hold."""

    quant_type: str
    names: str
    linears: int = 0
    before: int = 0
    after: int = 0
    input_scales: Loss = field(default_factory=Loss)
    floats: Loss = field(default_factory=Loss)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Piece:
    """One tensor of a part; without an array only an entry of the description."""

    name: str
    array: AnyArray | None
    label: str | int | None


def compress_directory(
    source: str | Path,
    out: str | Path,
    options: Options,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda nbytes: None,
) -> Summary:
    """Write the parts of a sparse directory; return what was done.

    Raises:
        CheckpointError: unusable source or output, or something that cannot be split.
    """
    if not 0 < options.tp <= _MAX_RANKS:
        raise CheckpointError(f"tp {options.tp}: expected 1 to {_MAX_RANKS}")
    opened = open_sparse(source, to_float16=options.to_float16)
    targets, summary = _plan(opened, options)
    summary.input_scales, summary.floats = measure_losses(
        opened, inputs=not options.keep_inputs, floats=options.to_float16
    )
    with PartsWriter(
        out, options.tp, SPARSE[opened.quant_type], _metadata(opened), overwrite=overwrite
    ) as writer:
        writer.copy_companions(opened.checkpoint.path)
        for target, rank, ready in _results(opened, targets, options):
            for piece in ready:
                _write(writer, rank, piece, opened)
            if target.label in SPARSE:
                summary.after += sum(_stored(piece) for piece in ready)
            progress(_share(opened, target, rank, options.tp))
    return summary


def _plan(source: SparseSource, options: Options) -> tuple[list[Target], Summary]:
    config = source.checkpoint.config
    shards = choose_map(options.names, config.model_type if config else None)
    heads = heads_of(config, options.pad_heads)
    targets = plan_targets(source.tensors, source.labels, shards, heads, options.tp)
    for target in targets:
        _check_shared_inputs(source, target)
    summary = Summary(SPARSE[source.quant_type], shards.name, linears=len(source.linears))
    weights = (source.tensors[f"{module}.weight"] for module in source.linears)
    summary.before = sum(weight.end - weight.begin for weight in weights)
    if config is None:
        summary.notes.append(
            "no config.json: rows are split evenly, not at the boundaries of attention heads"
        )
    elif shards.consumer != PLAIN and "lm_head.weight" not in source.tensors:
        summary.notes.append("tied embeddings: the engine asks each part for lm_head.weight")
    return targets, summary


def _check_shared_inputs(source: SparseSource, target: Target) -> None:
    """Fused linears have one input: their parameters must be equal. formats.md 5.5 PACK-003."""
    first, *others = target.members
    for suffix in (s for s in PER_TENSOR if s in target.suffixes):
        expected = source.checkpoint.tensor(f"{first.module}.{suffix}")
        for member in others:
            found = source.checkpoint.tensor(f"{member.module}.{suffix}")
            if not same(found, expected):
                raise CheckpointError(
                    f"tensor {clip(f'{member.module}.{suffix}', 120)!r}: found {found[0]}, "
                    f"expected {expected[0]} as in {clip(first.module, 120)}, with which the "
                    "engine fuses it"
                )


def _metadata(source: SparseSource) -> dict[str, Any]:
    """The metadata keys that the quantizer's compressor copies. formats.md 2.1 column SC."""
    description = source.checkpoint.description
    assert description is not None
    kept = {key: description.get(key) for key in _KEPT if description.get(key) is not None}
    group = description.get("group_size")
    if kept.get("version") not in NO_VERSION and type(group) is int and group > 0:
        kept["group_size"] = group
    return kept


@contextmanager
def pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool whose waiting jobs are dropped on an error or an interrupt."""
    executor = ThreadPoolExecutor(workers)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _results(
    source: SparseSource, targets: list[Target], options: Options
) -> Iterator[tuple[Target, int, list[Piece]]]:
    """Yield the pieces of every (target, rank) in order; a bounded number is under way."""
    workers = options.threads or cpu_count() or 1
    waiting: deque[tuple[Target, int, Future[list[Piece]]]] = deque()
    with pool(workers) as executor:
        for target in targets:
            for rank in range(options.tp):
                future = executor.submit(pieces_of, source, target, rank, options)
                waiting.append((target, rank, future))
                if len(waiting) > 2 * workers:
                    done, number, future = waiting.popleft()
                    yield done, number, future.result()
        while waiting:
            done, number, future = waiting.popleft()
            yield done, number, future.result()


def pieces_of(source: SparseSource, target: Target, rank: int, options: Options) -> list[Piece]:
    """Return what a rank's part holds of one target.

    Raises:
        CheckpointError: a value that the part cannot hold.
    """
    cut = {suffix: _cut(source, target, suffix, rank) for suffix in target.suffixes}
    names = {suffix: f"{target.name}.{suffix}" if target.name else suffix for suffix in cut}
    if target.label not in SPARSE or "weight" not in cut:
        first = target.members[0].module
        return [
            Piece(names[s], array, source.labels.get(f"{first}.{s}" if first else s))
            for s, array in cut.items()
        ]
    found = _compressed(cut.pop("weight"), target, SPARSE[target.label])
    for suffix, array in cut.items():
        label = source.labels.get(f"{target.members[0].module}.{suffix}")
        found.append(Piece(names[suffix], _narrowed(suffix, array, names[suffix], options), label))
        if suffix == "bias" and target.label == "W16A16S":
            # the engine reads a bias only where this entry stands: formats.md 2.2, SC-017
            found += [Piece(key, None, n) for key, n in outdim(names[suffix], array.size).items()]
    return found


def _cut(source: SparseSource, target: Target, suffix: str, rank: int) -> AnyArray:
    parts = []
    for member in target.members:
        name = f"{member.module}.{suffix}" if member.module else suffix
        parts.append(member.cut(suffix, source.checkpoint.tensor(name), rank))
    return parts[0] if suffix in PER_TENSOR or len(parts) == 1 else np.concatenate(parts)


def _compressed(weight: AnyArray, target: Target, label: str) -> list[Piece]:
    rows = weight.shape[0]
    if label == "W16A16SC":
        done = sparse.compress(to_dtype(weight, FLOAT16), "high", threads=1)
    else:
        done = sparse.compress(np.ascontiguousarray(weight), "low", threads=1)
    found = [
        Piece(f"{target.name}.weight", done.weight, label),
        Piece(f"{target.name}.index", done.index, label),
        Piece(f"{target.name}.info", done.info, label),
    ]
    if label == "W16A16SC":
        found += [Piece(key, None, n) for key, n in outdim(found[0].name, rows).items()]
    return found


def _narrowed(suffix: str, array: AnyArray, name: str, options: Options) -> AnyArray:
    if suffix not in PER_TENSOR or options.keep_inputs:
        return array
    try:
        return narrow_scale(array) if suffix == "input_scale" else narrow_offset(array)
    except ValueError as error:
        raise CheckpointError(f"tensor {clip(name, 120)!r}: {error}") from None


def _write(writer: PartsWriter, rank: int, piece: Piece, source: SparseSource) -> None:
    """Write a piece; a float tensor of a model that is not float16 is converted on the way."""
    array, label = piece.array, piece.label
    given = last(piece.name) in PER_TENSOR  # narrowed already, or to be left as they are
    if array is None or isinstance(label, int):
        writer.describe(rank, piece.name, label)
    elif source.dtype != "F16" and array.dtype == whole_dtype(source.dtype) and not given:
        converted = (to_dtype(part, FLOAT16) for part in pieces(array))
        writer.write_pieces(rank, piece.name, FLOAT16, array.shape, converted, label)
    else:
        writer.write(rank, piece.name, array, label)


def _stored(piece: Piece) -> int:
    kept = piece.name.endswith((".weight", ".index", ".info"))
    return piece.array.nbytes if kept and piece.array is not None else 0


def _share(source: SparseSource, target: Target, rank: int, ranks: int) -> int:
    """Source bytes that count as done after one rank of a target."""
    names = (f"{m.module}.{s}" if m.module else s for m in target.members for s in target.suffixes)
    size = sum(source.tensors[name].end - source.tensors[name].begin for name in names)
    return size * (rank + 1) // ranks - size * rank // ranks

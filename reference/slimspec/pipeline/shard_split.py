"""Which indices of a dimension each tensor-parallel rank holds, and how to put them together again.

The unit is an attention head where a rule says so, else one row or column. Counting in units:

    count % ranks == 0   every rank holds count / ranks, in order
    ranks % count == 0   key/value heads only: ranks / count neighbours hold the same head
    otherwise            an error, or padding with zero heads where it is asked for

Source: formats.md 5.5 TP-001, math.md 4.4;
Ascend/MindIE-LLM/examples/atb_models/atb_llm/utils/weights.py:303-317,350-450.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Block:
    """What one rank holds of a dimension: [start, stop), then zeros up to `width`."""

    start: int
    stop: int
    width: int

    def scaled(self, unit: int) -> "Block":
        """Return the block in elements when it was counted in units."""
        return Block(self.start * unit, self.stop * unit, self.width * unit)


def even_blocks(count: int, ranks: int) -> list[Block]:
    """Return equal consecutive blocks.

    Raises:
        ValueError: they would not be equal.
    """
    if count % ranks:
        raise ValueError(f"{count} do not divide by {ranks} ranks")
    width = count // ranks
    return [Block(rank * width, (rank + 1) * width, width) for rank in range(ranks)]


def query_blocks(heads: int, kv_heads: int, ranks: int, *, pad: bool = False) -> list[Block]:
    """Return the query heads of each rank; with `pad` a rank may end in zero heads.

    Raises:
        ValueError: the heads do not divide and may not be padded, or padding would lose some.
    """
    if heads % ranks == 0:
        return even_blocks(heads, ranks)
    if not pad:
        raise ValueError(
            f"{heads} attention heads do not divide by {ranks} ranks; --pad-heads adds zero heads"
        )
    width = -(-heads // ranks)
    blocks = _grouped(heads, width, ranks) if heads != kv_heads else _trailing(heads, width, ranks)
    if sorted(i for b in blocks for i in range(b.start, b.stop)) != list(range(heads)):
        raise ValueError(f"{heads} attention heads on {ranks} ranks: padding would lose heads")
    return blocks


def kv_blocks(heads: int, kv_heads: int, ranks: int, *, pad: bool = False) -> list[Block]:
    """Return the key/value heads of each rank.

    Raises:
        ValueError: they neither divide nor can be shared evenly by neighbouring ranks.
    """
    if kv_heads == heads:
        return query_blocks(heads, kv_heads, ranks, pad=pad)
    if kv_heads % ranks == 0:
        return even_blocks(kv_heads, ranks)
    if ranks % kv_heads == 0:
        share = ranks // kv_heads
        return [Block(rank // share, rank // share + 1, 1) for rank in range(ranks)]
    raise ValueError(f"{kv_heads} key/value heads do not divide by {ranks} ranks, nor the reverse")


def _trailing(heads: int, width: int, ranks: int) -> list[Block]:
    """Full ranks first; the zeros stand on the last ones."""
    starts = [min(heads, rank * width) for rank in range(ranks)]
    return [Block(start, min(heads, start + width), width) for start in starts]


def _grouped(heads: int, width: int, ranks: int) -> list[Block]:
    """One zero head on the first rank of each group, so that a group keeps its key/value head."""
    group = ranks // (width * ranks - heads)
    blocks, start = [], 0
    for rank in range(ranks):
        stop = start + width - (rank % group == 0)
        blocks.append(Block(start, stop, width))
        start = stop
    return blocks


def cut(array: AnyArray, block: Block, axis: int) -> AnyArray:
    """Return what a rank holds of `array`; a view where nothing is padded."""
    part = array[(slice(None),) * axis + (slice(block.start, block.stop),)]
    missing = block.width - (block.stop - block.start)
    if not missing:
        return part
    shape = list(part.shape)
    shape[axis] = missing
    return np.concatenate([part, np.zeros(shape, array.dtype)], axis=axis)


def join(parts: Sequence[AnyArray], blocks: Sequence[Block], axis: int) -> AnyArray:
    """Undo `cut` for all ranks.

    Raises:
        ValueError: a part has another width, ranks that share indices differ, or padding is not
            zero.
    """
    before = (slice(None),) * axis
    shape = list(parts[0].shape)
    shape[axis] = max(block.stop for block in blocks)
    whole = np.zeros(shape, parts[0].dtype)
    end = 0
    for rank, (part, block) in enumerate(zip(parts, blocks, strict=True)):
        shape[axis] = block.width
        if list(part.shape) != shape or part.dtype != whole.dtype:
            found = f"{part.dtype} {list(part.shape)}"
            raise ValueError(f"rank {rank} holds {found}, expected {whole.dtype} {shape}")
        used = block.stop - block.start
        values, rest = part[(*before, slice(used))], part[(*before, slice(used, None))]
        target = (*before, slice(block.start, block.stop))
        if rest.tobytes().strip(b"\0"):
            raise ValueError(f"rank {rank}: padding is not zero")
        if block.stop <= end and values.tobytes() != whole[target].tobytes():
            raise ValueError(f"rank {rank} differs from the rank it shares heads with")
        whole[target] = values
        end = max(end, block.stop)
    return whole

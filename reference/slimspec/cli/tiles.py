"""`slimspec inspect --tiles DIR`: how far each tile of each compressed weight shrank.

The index of a weight and one byte of each tile tell its stored and its raw size, so nothing is
decoded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slimspec.checkpoint import Checkpoint, CheckpointError
from slimspec.checkpoint.errors import clip
from slimspec.patterns import visible

_COMPRESSED = ("W8A8SC", "W16A16SC")
_NUMBER = re.compile(r"\.(\d+)\.")
NO_LAYER = -1


@dataclass(frozen=True)
class Grid:
    """The tiles of one weight.

    Attributes:
        part: name of its part directory.
        layer: first number in its name, `NO_LAYER` without one.
        kind: the rest of its name, the last two components.
        stored, raw: int64 [n_index, k_index], bytes of each tile as stored and before compression.
        compressed: bool [n_index, k_index], False where a tile is stored raw.
    """

    part: str
    layer: int
    kind: str
    stored: NDArray[np.int64]
    raw: NDArray[np.int64]
    compressed: NDArray[np.bool_]


def read_grids(root: Checkpoint) -> list[Grid]:
    """Return the grid of every compressed weight, part by part.

    Raises:
        CheckpointError: there is none, or an index does not fit its weight.
    """
    holders = [(part.name, part.checkpoint) for part in root.parts] or [(root.path.name, root)]
    grids = []
    for part, checkpoint in holders:
        labels = checkpoint.description.labels if checkpoint.description else {}
        weights = (n for n, label in labels.items() if label in _COMPRESSED)
        modules = (n.removesuffix(".weight") for n in weights if n.endswith(".weight"))
        grids += [_grid(part, checkpoint, module) for module in modules]
    if not grids:
        wanted = " or ".join(_COMPRESSED)
        raise CheckpointError(f"{clip(str(root.path))}: no weight is of type {wanted}: no tiles")
    return grids


def _grid(part: str, checkpoint: Checkpoint, module: str) -> Grid:
    from slimspec.sparse.container import open_container

    try:
        tensors = (checkpoint.tensor(f"{module}.{s}") for s in ("weight", "index", "info"))
        container = open_container(*tensors)
        tiles = [container.resolve(tile) for tile in container.plan.tiles()]
    except ValueError as error:
        place = f"{clip(str(checkpoint.path))}: tensor '{clip(module, 120)}'"
        raise CheckpointError(f"{place}: {error}") from None
    shape = (container.plan.n_index, container.plan.k_index)
    number = _NUMBER.search(module)
    return Grid(
        part=part,
        layer=int(number[1]) if number else NO_LAYER,
        kind=_kind(module),
        stored=np.array([tile.entry.size for tile in tiles], np.int64).reshape(shape),
        raw=np.array([tile.size for tile in tiles], np.int64).reshape(shape),
        compressed=np.array([tile.entry.compressed for tile in tiles], np.bool_).reshape(shape),
    )


def _kind(module: str) -> str:
    return ".".join(_NUMBER.sub(".", module).split(".")[-2:])


def kinds(grids: Sequence[Grid]) -> list[str]:
    """Return the kinds in order of appearance."""
    return list(dict.fromkeys(grid.kind for grid in grids))


def print_table(grids: Sequence[Grid], console: Console) -> None:
    """Print a row per part and kind: tiles, raw tiles, sizes."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("part", "weights"):
        table.add_column(column)
    for column in ("count", "tiles", "stored raw", "bytes", "stored", "ratio"):
        table.add_column(column, justify="right")
    for part in dict.fromkeys(grid.part for grid in grids):
        for kind in kinds(grids):
            own = [grid for grid in grids if (grid.part, grid.kind) == (part, kind)]
            if own:
                table.add_row(
                    *(Text(visible(said)) for said in (part, kind)), str(len(own)), *_figures(own)
                )
    table.add_section()
    table.add_row("all", "", str(len(grids)), *_figures(grids))
    console.print(table)


def _figures(grids: Sequence[Grid]) -> tuple[str, str, str, str, str]:
    tiles = sum(grid.stored.size for grid in grids)
    raw = sum(int((~grid.compressed).sum()) for grid in grids)
    before, stored = (sum(int(getattr(g, what).sum()) for g in grids) for what in ("raw", "stored"))
    return f"{tiles:,}", f"{raw:,}", f"{before:,}", f"{stored:,}", f"{stored / before:.1%}"

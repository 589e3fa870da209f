"""`slimspec inspect DIR`: a table of what is in it, one row per kind of tensor."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from slimspec.figures import figure_file
from slimspec.patterns import collapse, visible

_WIDTH = 1000  # of the output where it is no terminal; tables are as wide as their texts
_COLUMNS = {"tensors": 200, "label": 40, "dtype": 20, "shape": 60}  # and their greatest width
_SCALES = ("scale", "scale_second")  # how the names of scale tensors end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("directory", metavar="DIR")
    add("--tiles", action="store_true", help="show how far the tiles of compressed weights shrank")
    add("-o", "--out", metavar="FILE", help="with --tiles: draw a heat map, .svg, .png or .pdf")
    add("--overwrite", action="store_true", help="replace an existing FILE")


def run(args: argparse.Namespace) -> None:
    """Print the table.

    Raises:
        CheckpointError: the directory cannot be read, or the picture cannot be written.
    """
    if args.out and not args.tiles:
        raise CheckpointError("-o FILE: expected --tiles with it")
    if not args.directory:
        raise CheckpointError("expected the name of a directory, found an empty one")
    checkpoint = open_checkpoint(args.directory)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    if args.tiles:
        _tiles(checkpoint, console, args.out, args.overwrite)
        return
    for holder in [part.checkpoint for part in checkpoint.parts] or [checkpoint]:
        _print(holder, console)


def _tiles(checkpoint: Checkpoint, console: Console, out: str | None, overwrite: bool) -> None:
    from slimspec.cli.tiles import print_table, read_grids

    grids = read_grids(checkpoint)
    if out is not None:
        file = figure_file(out, overwrite)
        from slimspec.cli.tiles_picture import draw

        draw(grids, file, checkpoint.path.resolve().name)
    print_table(grids, console)


@dataclass
class Row:
    """Tensors with one label, dtype, shape, last part and depth of the name."""

    label: str
    dtype: str
    shape: tuple[int, ...]
    names: list[str] = field(default_factory=list)
    nbytes: int = 0


def rows(checkpoint: Checkpoint) -> list[Row]:
    """Group the tensors of a directory, quantized modules first, a weight before its scales."""
    table = checkpoint.table
    labels = checkpoint.description.labels if checkpoint.description else {}
    modules: dict[str, list[int]] = {}
    for i, name in enumerate(table.names):
        modules.setdefault(name.rpartition(".")[0], []).append(i)
    kinds: dict[tuple[object, ...], dict[str, Row]] = {}
    for module, members in modules.items():
        last = {i: table.names[i].rpartition(".")[2] for i in members}
        members.sort(key=lambda i: (last[i] != "weight", last[i]))
        facts = [(last[i], labels.get(table.names[i], "-"), table.dtype(i), table.shape(i))
                 for i in members]  # fmt: skip
        kind = kinds.setdefault((module.count("."), *facts), {})
        for i, (suffix, label, dtype, shape) in zip(members, facts, strict=True):
            row = kind.setdefault(suffix, Row(label, dtype, shape))
            row.names.append(table.names[i])
            row.nbytes += int(table.end[i] - table.begin[i])
    groups = sorted((list(kind.values()) for kind in kinds.values()), key=_rank)
    return [row for group in groups for row in group]


def _rank(group: Sequence[Row]) -> tuple[bool, str]:
    return all(row.label == "FLOAT" for row in group), group[0].label


def _print(checkpoint: Checkpoint, console: Console) -> None:
    console.print(Text(visible(_title(checkpoint))), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    for column, width in _COLUMNS.items():
        table.add_column(column, overflow="fold", max_width=width)
    for column in ("count", "bytes", "range"):
        table.add_column(column, justify="right")
    for row in rows(checkpoint):
        table.add_row(
            Text(visible(collapse(row.names))),
            Text(visible(row.label)),
            Text(visible(row.dtype)),
            "×".join(map(str, row.shape)) or "scalar",
            str(len(row.names)),
            f"{row.nbytes:,}",
            _scale_range(checkpoint, row.names),
        )
    console.print(table)


def _title(checkpoint: Checkpoint) -> str:
    return (
        f"{checkpoint.path}: {checkpoint.kind}, profile {checkpoint.profile.name}, "
        f"model dtype {checkpoint.model_dtype or 'unknown'}, {len(checkpoint.table)} tensors, "
        f"{checkpoint.table.nbytes:,} bytes in {len(checkpoint.shards)} files"
    )


def _scale_range(checkpoint: Checkpoint, names: Iterable[str]) -> str:
    """Smallest and largest value of scale tensors; empty for others."""
    low, high = np.inf, -np.inf
    for name in names:
        if not name.endswith(_SCALES):
            return ""
        values = checkpoint.tensor(name)
        if values.dtype == np.int64:  # deq_scale as the bits of a float32
            values = values.astype(np.uint32).view(np.float32)
        values = values.astype(np.float32)
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return f"{low:.3g} … {high:.3g}" if low <= high else ""

"""The heat map of `slimspec inspect --tiles`: a cell per weight, in it a field per tile.

Rows are layers, columns the kinds of weights, one panel per part. The colour is stored size over
raw size; a tile that is stored raw has a colour of its own.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from numpy.typing import NDArray

from slimspec.cli.tiles import NO_LAYER, Grid, kinds
from slimspec.figures import save_figure

_RAW = 2.0  # above every ratio: the colour map's colour for "over"
_RAW_COLOUR = "#d1495b"
_EMPTY = "#f2f2f2"
_TEXT = "#333333"
_MOST = 24  # fields of a cell along one side, at least; larger weights get as many as they have
_NUMBERED = 48  # layers up to which each has its number and its total


def draw(grids: Sequence[Grid], out: Path, title: str) -> None:
    """Write the picture, whole or not at all.

    Raises:
        CheckpointError: the file cannot be written.
    """
    parts = list(dict.fromkeys(grid.part for grid in grids))
    columns = kinds(grids)
    layers = sorted({grid.layer for grid in grids}, key=lambda layer: (layer == NO_LAYER, layer))
    figure = _figure(grids, parts, columns, layers, title)
    save_figure(figure, out, dpi=150)


def _figure(
    grids: Sequence[Grid], parts: list[str], columns: list[str], layers: list[int], title: str
) -> Figure:
    width = 1.6 + len(parts) * (0.35 + 1.05 * len(columns)) + 1.0
    height = 1.7 + min(24.0, max(1.6, 0.5 * len(layers)))
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.03))
    axes = figure.subplots(1, len(parts), squeeze=False, sharey=True)[0]
    images = []
    for at, (ax, part) in enumerate(zip(axes, parts, strict=True)):
        own = [grid for grid in grids if grid.part == part]
        images.append(_panel(ax, own, columns, layers, first=at == 0))
        ax.set_title(f"{part}   {_ratio(own):.1%}", fontsize=9, color=_TEXT, pad=16)
    bar = figure.colorbar(images[0], ax=list(axes), fraction=0.03, pad=0.015, aspect=30)
    bar.set_label("stored / raw bytes of a tile", fontsize=8, color=_TEXT)
    bar.ax.tick_params(labelsize=7, colors=_TEXT)
    bar.outline.set_visible(False)
    tiles = sum(grid.stored.size for grid in grids)
    raw = sum(int((~grid.compressed).sum()) for grid in grids)
    figure.legend(
        handles=[Patch(color=_RAW_COLOUR, label=f"stored raw: {raw:,} of {tiles:,} tiles")],
        loc="outside lower right", fontsize=8, frameon=False, labelcolor=_TEXT,
    )  # fmt: skip
    figure.suptitle(
        f"{title}: weights stored in {_ratio(grids):.1%} of their bytes\n"
        "one field per tile: 128 rows n downwards, 256 bytes k to the right",
        fontsize=9, color=_TEXT, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _panel(
    ax: Axes, grids: Sequence[Grid], columns: list[str], layers: list[int], *, first: bool
) -> AxesImage:
    tall = max(_MOST, max(grid.stored.shape[0] for grid in grids))
    wide = max(_MOST, max(grid.stored.shape[1] for grid in grids))
    row_of = {layer: row for row, layer in enumerate(layers)}
    picture = np.full((tall * len(layers), wide * len(columns)), np.nan)
    for grid in grids:
        row, column = row_of[grid.layer] * tall, columns.index(grid.kind) * wide
        picture[row : row + tall, column : column + wide] = _cell(grid, tall, wide)
    colours = colormaps["viridis"].with_extremes(over=_RAW_COLOUR, bad=_EMPTY)
    extent = (0.0, float(len(columns)), float(len(layers)), 0.0)
    image = ax.imshow(
        picture, cmap=colours, vmin=0, vmax=1, extent=extent, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    for x in range(1, len(columns)):
        ax.axvline(x, color="white", lw=4)
    for y in range(1, len(layers)):
        ax.axhline(y, color="white", lw=3 if len(layers) <= _NUMBERED else 1)
    ax.set_xticks([x + 0.5 for x in range(len(columns))], columns, fontsize=8, color=_TEXT)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for x, kind in enumerate(columns):
        own = [grid for grid in grids if grid.kind == kind]
        if own:
            ax.text(x + 0.5, 1.004, f"{_ratio(own):.0%}", ha="center", va="bottom", fontsize=7,
                    color=_TEXT, transform=ax.get_xaxis_transform())  # fmt: skip
    if first:
        _number_layers(ax, layers)
    return image


def _number_layers(ax: Axes, layers: list[int]) -> None:
    step = 1 if len(layers) <= _NUMBERED else 8
    shown = [row for row in range(len(layers)) if row % step == 0]
    names = ["–" if layers[row] == NO_LAYER else str(layers[row]) for row in shown]
    ax.set_yticks([row + 0.5 for row in shown], names, fontsize=8, color=_TEXT)
    ax.set_ylabel("layer", fontsize=8, color=_TEXT)


def _cell(grid: Grid, tall: int, wide: int) -> NDArray[np.float64]:
    """Ratios of a grid, stretched to the size of a cell; `_RAW` where a tile is raw."""
    ratio = np.where(grid.compressed, grid.stored / grid.raw, _RAW)
    rows = np.arange(tall) * ratio.shape[0] // tall
    columns = np.arange(wide) * ratio.shape[1] // wide
    return ratio[np.ix_(rows, columns)]


def _ratio(grids: Sequence[Grid]) -> float:
    return sum(g.stored.sum() for g in grids) / sum(g.raw.sum() for g in grids)

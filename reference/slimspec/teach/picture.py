"""The picture of a type: its steps, its error, and the codes of the example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from slimspec.figures import save_figure
from slimspec.numeric import as_float32
from slimspec.schemes import Linear

from .example import Example

_POINTS = 512  # rows of the ramp
_SHOWN = 8  # columns of the example
_BLUE, _RED = "#2f6690", "#d1495b"


def draw(example: Example, file: Path) -> None:
    """Write the picture into a file from `figure_file`.

    The steps are those of a weight that shares its scale with -1 and 1.

    Raises:
        CheckpointError: the file cannot be written.
    """
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    steps, error, codes = figure.subplots(1, 3, width_ratios=[1, 1, 1.6])
    figure.suptitle(f"{example.scheme.label} ({example.profile}, {example.dtype})")
    w, restored = _ramp(example)
    _steps(steps, w, restored)
    _error(error, w, restored)
    _codes(codes, example)
    save_figure(figure, file)


def _ramp(example: Example) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights from -1 to 1 and what they become, each in a row of its own among -1 and 1."""
    kind, k = example.linear.weight.dtype, example.linear.weight.shape[1]
    rows = np.where(np.arange(k) % 2, -1, 1) * np.ones((_POINTS, 1))
    rows[:, 0] = np.linspace(-1, 1, _POINTS)
    rows = rows.astype(kind)
    linear = Linear(rows, None, example.linear.name)
    q = example.scheme.quantize(linear, variant=example.variant, **example.options)
    return as_float32(rows[:, 0]), example.scheme.dequantize(q)[:, 0]


def _steps(axes: Axes, w: NDArray[np.float32], restored: NDArray[np.float32]) -> None:
    axes.plot(w, w, color="#bbbbbb", linewidth=1)
    axes.step(w, restored, where="mid", color=_BLUE, linewidth=1.2)
    axes.set(title="what w becomes", xlabel="w, the largest of its scale is 1", ylabel="ŵ")
    axes.grid(alpha=0.25)


def _error(axes: Axes, w: NDArray[np.float32], restored: NDArray[np.float32]) -> None:
    axes.plot(w, restored - w, color=_RED, linewidth=1)
    most = float(np.abs(restored - w).max())
    axes.set(title=f"ŵ − w, at most {most:.3g}", xlabel="w")
    axes.grid(alpha=0.25)


def _codes(axes: Axes, example: Example) -> None:
    shown = example.codes[:, :_SHOWN]
    w = as_float32(example.linear.weight)[:, :_SHOWN]
    limit = float(np.abs(shown).max()) or 1.0
    axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), code in np.ndenumerate(shown):
        colour = "white" if abs(code) > 0.6 * limit else "#222222"
        axes.text(j, i - 0.12, f"{code + 0:g}", ha="center", va="center", color=colour)
        axes.text(j, i + 0.25, f"{w[i, j]:g}", ha="center", va="center", color=colour, fontsize=6.5)
    axes.set(title="codes of the example, its weights below them", xticks=[], yticks=range(4))
    axes.set_ylabel("row")

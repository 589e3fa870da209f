"""The costs of quantization as a picture: SQNR and cosine of every linear, by layer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from slimspec.figures import save_figure

from .evaluate import Evaluation, LinearCost

CEILING = 80.0  # dB; what is closer, or unchanged, is drawn here
_LAYER = re.compile(r"\.(\d+)\.")
_MARKERS = "osD^v<>PX*"


def by_role(linears: list[LinearCost]) -> dict[str, list[tuple[int, LinearCost]]]:
    """Return role (q_proj, ..) -> layer and cost; experts of a layer under one role."""
    found: dict[str, list[tuple[int, LinearCost]]] = {}
    for cost in linears:
        layer = _LAYER.search(cost.name)
        if layer:
            role = re.sub(r"experts\.\d+\.", "experts.", cost.name[layer.end() :])
            role = re.sub(r"^(self_attn|mlp|attention)\.", "", role)
            found.setdefault(role, []).append((int(layer[1]), cost))
    return found


def plot_evaluation(found: Evaluation, file: Path, title: str) -> None:
    """Draw the costs into a file from `figure_file`.

    Raises: CheckpointError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    figure.suptitle(title)
    for number, (role, points) in enumerate(sorted(by_role(found.linears).items())):
        _draw(upper, lower, role, points, number)
    upper.set_ylabel("SQNR of the output, dB")
    lower.set_ylabel("1 − cosine")
    lower.set_yscale("log")
    lower.set_xlabel("layer")
    lower.xaxis.get_major_locator().set_params(integer=True)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    upper.legend(loc="upper left", bbox_to_anchor=(1.01, 1), title="hollow: float", frameon=False)
    save_figure(figure, file)


def _draw(
    upper: Any, lower: Any, role: str, points: list[tuple[int, LinearCost]], number: int
) -> None:
    """One role: a colour and a marker; hollow markers where the linear itself is float."""
    color, marker = f"C{number % 10}", _MARKERS[number % len(_MARKERS)]
    layers = np.array([layer for layer, _ in points])
    sqnr = np.clip([cost.sqnr for _, cost in points], None, CEILING)
    away = np.maximum(1 - np.array([cost.cosine for _, cost in points]), 1e-9)
    quantized = np.array([cost.label != "FLOAT" for _, cost in points])
    many = len(set(layers.tolist())) < len(layers)
    for axes, y in ((upper, sqnr), (lower, away)):
        if not many:
            axes.plot(layers, y, color=color, linewidth=1, alpha=0.6)
        filled = bool(quantized.any())
        for chosen, face, named in ((quantized, color, filled), (~quantized, "none", not filled)):
            axes.scatter(
                layers[chosen],
                y[chosen],
                s=36,
                marker=marker,
                edgecolors=color,
                facecolors=face,
                label=role if named and axes is upper else None,
                zorder=3,
            )

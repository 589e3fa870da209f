"""Pictures into files: the name is checked before the work, the file is written whole or not."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".svg", ".png", ".pdf")


def figure_file(name: str | Path, overwrite: bool = False) -> Path:
    """Return the path of a picture that can be drawn.

    Raises:
        CheckpointError: another ending, the file exists, it has no directory, or matplotlib is
            missing.
    """
    file = Path(name)
    shown = clip(str(file))
    if file.suffix not in ENDINGS:
        raise CheckpointError(f"{shown}: expected a name ending in .svg, .png or .pdf")
    if not file.parent.is_dir():
        raise CheckpointError(f"{shown}: cannot be written: its parent is no directory")
    if os.path.lexists(file) and not overwrite:
        raise CheckpointError(f"{shown}: exists (overwrite not asked)")
    if find_spec("matplotlib") is None:
        raise CheckpointError("a picture needs matplotlib: pip install 'slimspec[docs]'")
    return file


def save_figure(figure: Figure, file: Path, dpi: int = 120) -> None:
    """Write a figure; an .svg has the same bytes every time.

    Raises:
        CheckpointError: the file cannot be written.
    """
    from matplotlib import rc_context

    half = file.with_name(f".picture-{os.getpid()}")
    try:
        with rc_context({"svg.hashsalt": "slimspec", "svg.fonttype": "none"}):
            stamp = {"Date": None} if file.suffix == ".svg" else None
            figure.savefig(half, format=file.suffix[1:], dpi=dpi, metadata=stamp)
        half.replace(file)
    except OSError as error:
        raise CheckpointError(f"{clip(str(file))}: cannot be written: {error.strerror}") from None
    finally:
        half.unlink(missing_ok=True)

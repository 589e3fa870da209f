"""Write the digest of every cell of the grid: `python -m slimspec.golden.grid_build`.

They stand in `golden/checkpoints/generated.json`. Run it after a change of a scheme, a writer or a
tiny model; then `python -m slimspec.golden.build` for the manifest.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from slimspec.golden.build import text
from slimspec.golden.grid import GENERATED, Cell, digest, made, rows
from slimspec.golden.grid_make import make
from slimspec.golden.target import target


def digests(cells: Iterable[Cell]) -> dict[Cell, str]:
    """Make each cell in a temporary directory and return its digest."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
        for cell in cells:
            out = Path(temporary) / "made" / cell.id
            out.parent.mkdir(exist_ok=True)
            make(cell, out, Path(temporary))
            found[cell] = digest(out)
    return found


def build(golden: Path) -> None:
    """Write `checkpoints/generated.json` below `golden`."""
    content = {
        "generated": "python -m slimspec.golden.grid_build",
        "checkpoints": rows(digests(made())),
    }
    (golden / "checkpoints" / GENERATED).write_text(text(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    build(target(__doc__))

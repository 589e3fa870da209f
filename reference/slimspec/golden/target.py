"""The argument of the commands that make `golden/`: another folder to fill."""

import argparse
from pathlib import Path

from slimspec.data import folder


def target(description: str | None) -> Path:
    """Read the command line; return the folder to fill, by default `golden`.

    Args: description: docstring of the command's module.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where to write (default: golden)")
    chosen: Path | None = parser.parse_args().folder
    return chosen or folder("golden")

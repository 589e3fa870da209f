"""Where the statements (`schemas/`) and the evidence (`golden/`) live.

They are language-neutral data beside the packages in a checkout and package data in a wheel;
`folder` resolves both.
"""

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def folder(name: str) -> Path:
    """Return the directory of the data folder `name` ("schemas" or "golden").

    Raises:
        FileNotFoundError: the installation carries no such folder.
    """
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"slimspec is installed without its data folder {name!r}")

"""A place for compiled kernels where neither the installation nor the home can be written.

numba refuses to cache there, at the import of the first kernel. A private directory of this run is
used instead, never a shared one: what lies in a cache is executed. Set NUMBA_CACHE_DIR to keep it.
"""

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def provide(installed: Path = Path(__file__).parent) -> None:
    """Set NUMBA_CACHE_DIR where numba would find no place."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    places = (installed / "__pycache__", Path(caches, "numba"))
    if os.environ.get(VARIABLE) or any(map(_can_be_written, places)):
        return
    with suppress(OSError):  # no place at all: numba says so when it is needed
        folder = tempfile.mkdtemp(prefix="slimspec-kernels-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[VARIABLE] = folder


def _can_be_written(place: Path) -> bool:
    """Whether a directory can be written, or made."""
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)

"""Put a finished directory in its place by renaming, never half and never over other things."""

import os
import shutil
import tempfile
from pathlib import Path

from .description import PREFIX
from .errors import CheckpointError, clip
from .profile import PART

PREVIOUS = ".previous-"  # between the names of OUT and of what it replaces, for a moment


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse an output path that holds something which may not be replaced."""
    if not out.name:
        raise CheckpointError(f"{clip(str(out))}: expected a path that names a new directory")
    if not out.parent.is_dir():
        raise CheckpointError(f"{clip(str(out.parent))}: no such directory")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise CheckpointError(f"{clip(str(out))}: exists and is not a directory")
    if not out.is_dir() or not (names := os.listdir(out)):
        return
    if not overwrite:
        raise CheckpointError(f"{clip(str(out))}: exists and is not empty (overwrite not asked)")
    known = (n.endswith(".safetensors") or n.startswith(PREFIX) or PART.fullmatch(n) for n in names)
    if not any(known):
        raise CheckpointError(f"{clip(str(out))}: holds no checkpoint, so it is not overwritten")


def publish(folder: Path, out: Path, overwrite: bool) -> None:
    """Rename the finished folder to `out`; an old checkpoint there goes only then.

    For a moment it is `OUT.previous-XXXXXXXX`: a process that is killed just then leaves it so.
    """
    check_free(out, overwrite)
    old: Path | None = None
    if out.is_dir() and os.listdir(out):
        old = Path(tempfile.mkdtemp(prefix=f"{out.name}{PREVIOUS}", dir=out.parent))
        out.rename(old)
    try:
        folder.rename(out)
    except BaseException:
        if old is not None:
            old.rename(out)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)

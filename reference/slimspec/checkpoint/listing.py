"""What lies in a directory: names, sizes, modes, links; no file is opened.

Source: formats.md 1.2 (links, permissions), DIR-013; users.md 1.2 row 116.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from .description import PREFIX
from .errors import CheckpointError, clip


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One member of the directory listing; size and mode are those of a link's target."""

    name: str
    size: int
    mode: int
    is_directory: bool
    is_symlink: bool


def list_directory(path: Path) -> list[FileEntry]:
    """Return the members of a directory, sorted by name.

    Raises:
        CheckpointError: it is missing, no directory, or cannot be listed.
    """
    shown = clip(str(path))
    try:
        if not path.is_dir():
            reason = "not a directory" if path.exists() else "no such directory"
            raise CheckpointError(f"{shown}: {reason}")
        with os.scandir(path) as entries:
            found = [_file_entry(entry) for entry in entries]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{shown}: cannot be read: {reason}") from None
    return sorted(found, key=lambda entry: entry.name)


def _file_entry(entry: "os.DirEntry[str]") -> FileEntry:
    try:
        info = entry.stat()
    except OSError:  # a dangling link
        info = entry.stat(follow_symlinks=False)
    is_directory = stat.S_ISDIR(info.st_mode)
    mode = stat.S_IMODE(info.st_mode)
    return FileEntry(entry.name, info.st_size, mode, is_directory, entry.is_symlink())


def holds_weights(path: Path) -> bool:
    """Whether a directory has weights or a description directly in it."""
    try:
        names = os.listdir(path)
    except OSError:
        return False
    return any(n.endswith(".safetensors") or n.startswith(PREFIX) for n in names)

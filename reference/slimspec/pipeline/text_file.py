"""Text files that a user names: regular, of a size that fits in memory, UTF-8."""

from __future__ import annotations

import stat
from pathlib import Path

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip


def read_text_file(path: Path, most: int) -> str:
    """Return the text of a file of at most `most` bytes.

    Raises: CheckpointError naming the file and what is wrong with it.
    """
    shown = clip(str(path))
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):  # a pipe or a device may never end
            kind = "a directory" if stat.S_ISDIR(info.st_mode) else "no regular file"
            raise CheckpointError(f"{shown}: cannot be read: found {kind}, expected a text file")
        if info.st_size > most:
            raise CheckpointError(f"{shown}: found {info.st_size} bytes, expected at most {most}")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"{shown}: cannot be read: is not UTF-8 text") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{shown}: cannot be read: {reason}") from None

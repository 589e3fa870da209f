"""A directory that is written beside its place and renamed at the end: all of it or nothing.

The folder is `OUT.partial-XXXXXXXX`. An error, Ctrl-C or SIGTERM removes it; a process that is
killed leaves it, with the file MARK in it, which a living writer holds locked. The next run for the
same OUT removes what nobody holds and says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import tempfile
from collections.abc import Iterator
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .errors import CheckpointError, clip
from .publish import PREVIOUS, check_free, publish

INFIX = ".partial-"
MARK = ".slimspec-is-writing"
_MODE = 0o755
_LOG = logging.getLogger(__name__)


class PartialDirectory:
    """Context manager; a subclass fills `_root()` and puts its last files there in `_finish`.

    Attributes:
        path: the directory to create.
    """

    def __init__(self, out: str | Path, overwrite: bool) -> None:
        """Prepare to write.

        Raises:
            CheckpointError: `out` exists and may not be replaced, or its parent is missing.
        """
        self.path = Path(out)
        self._overwrite = overwrite
        self._folder: Path | None = None
        self._mark: BufferedWriter | None = None
        check_free(self.path, overwrite)

    def __enter__(self) -> Self:
        try:
            remove_abandoned(self.path)
            prefix = f"{self.path.name}{INFIX}"
            self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.path.parent))
            self._mark = (self._folder / MARK).open("xb")
            with contextlib.suppress(OSError):  # a file system without locks: nothing is removed
                fcntl.flock(self._mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._start()
        except OSError as error:
            self._discard()
            raise self._refused(error) from None
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
                self._publish()
        except OSError as failure:
            raise self._refused(failure) from None
        finally:
            self._discard()

    def _start(self) -> None:
        """Make what is needed from the start."""

    def _finish(self) -> None:
        """Write the last files. Raises: CheckpointError, OSError."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """Close what is open; called at the end in any case."""

    def _root(self) -> Path:
        """The folder that is written."""
        if self._folder is None:
            raise RuntimeError(f"{type(self).__name__} is used outside its `with` block")
        return self._folder

    def _refused(self, error: OSError) -> CheckpointError:
        reason = error.strerror
        if isinstance(error, shutil.Error):  # of several files, each with source, copy and reason
            reason = str(error.args[0][0][-1]).partition(":")[0]
        return CheckpointError(f"{self.path}: cannot be written: {reason}")

    def _publish(self) -> None:
        root = self._root()
        (root / MARK).unlink()
        publish(root, self.path, self._overwrite)
        self._folder = None

    def _discard(self) -> None:
        self._abandon()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._mark is not None:
            self._mark.close()
            self._mark = None


class NewDirectory(PartialDirectory):
    """One that the body of its `with` fills, below `root`."""

    def __init__(self, out: str | Path) -> None:
        """Prepare to write. Raises: CheckpointError: `out` exists and is not an empty directory."""
        super().__init__(out, overwrite=False)

    @property
    def root(self) -> Path:
        """What becomes the directory."""
        return self._root()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        if isinstance(raised[1], OSError):
            raise self._refused(raised[1]) from None

    def _finish(self) -> None:
        self._root().chmod(_MODE)  # a temporary directory is for its owner only


def remove_abandoned(out: Path) -> None:
    """Remove the folders that killed runs for `out` left beside it, and say so."""
    for folder in _beside(out, PREVIOUS):
        _LOG.warning(
            "warning: %s is what a killed run was about to replace: rename it to %s, or delete it",
            clip(str(folder)),
            out.name,
        )
    for folder in _beside(out, INFIX):
        if not (folder / MARK).is_file():
            continue  # not one of ours, or one that is about to get its name
        if _is_held(folder / MARK):
            _LOG.warning("warning: another process is writing %s (%s)", clip(str(out)), folder.name)
            continue
        shutil.rmtree(folder, ignore_errors=True)
        _LOG.warning("removed %s, left by a run that was killed", clip(str(folder)))


def _beside(out: Path, infix: str) -> Iterator[Path]:
    for path in sorted(out.parent.iterdir()):
        ours = path.name.startswith(f"{out.name}{infix}")
        if ours and path.is_dir() and not path.is_symlink():
            yield path


def _is_held(mark: Path) -> bool:
    """True while a living process holds the lock of the file."""
    with contextlib.suppress(FileNotFoundError), mark.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False

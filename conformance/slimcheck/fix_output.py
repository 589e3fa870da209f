"""Write the repaired directory: edited files new, everything else linked or copied."""

import os
import shutil
import stat
from pathlib import Path

from slimcheck.fix import Plan, still_failing
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.checkpoint.errors import clip
from slimspec.checkpoint.partial import MARK, NewDirectory

NEW_MODE = 0o640  # of a file that was not there before


class _Repaired(NewDirectory):
    """The new directory, in the end with the mode of its source."""

    def __init__(self, source: Path, out: Path) -> None:
        super().__init__(out)
        self._source = source

    def _finish(self) -> None:
        self.root.chmod(stat.S_IMODE(self._source.stat().st_mode))


def write(source: str | Path, plan: Plan, out: str | Path, producer: str | None = None) -> None:
    """Write the checkpoint at `source` with the edits of `plan` to the new directory `out`.

    Weights become hard links where the file system allows it, else copies; other files are copied.
    The result is judged before it gets its name.

    Raises:
        CheckpointError: `out` exists, lies in `source`, or cannot be written; `source` holds
            something that is neither a file nor a directory; a repair did not repair.
    """
    source, out = Path(source), Path(out)
    new = _Repaired(source, out)
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise CheckpointError(f"{clip(str(out))}: the output would lie in its source")
    with new:
        _place(source, new.root, "", {edit.file for edit in plan.edits} | {MARK})
        for edit in plan.edits:
            if edit.content is not None:
                _write(new.root / edit.file, edit.content, source / edit.file)
        wrong = still_failing(open_checkpoint(new.root), plan.edits, producer)
        if wrong:
            ids = ", ".join(sorted(wrong))
            raise CheckpointError(f"{clip(str(out))}: not written: {ids} would stay violated")


def _place(source: Path, target: Path, inside: str, left_out: set[str]) -> None:
    """Link or copy every file below `source` but those left out."""
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        name = inside + entry.name
        if name in left_out:
            continue
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            (target / entry.name).mkdir()
            _place(path, target / entry.name, name + "/", left_out)
            shutil.copystat(path, target / entry.name)
        elif entry.is_file():  # a link of a download cache leads to a file
            _copy(path.resolve(), target / entry.name)
        else:
            raise CheckpointError(
                f"{clip(name)}: a link to a directory, or no file; nothing was written"
            )


def _copy(path: Path, target: Path) -> None:
    if target.name.endswith(".safetensors"):
        try:
            os.link(path, target)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copy2(path, target)


def _write(target: Path, content: bytes, old: Path) -> None:
    target.write_bytes(content)
    target.chmod(stat.S_IMODE(old.stat().st_mode) if old.exists() else NEW_MODE)

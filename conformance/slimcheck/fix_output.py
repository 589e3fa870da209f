"""Write the repaired directory: edited files new, everything else linked or copied."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

from slimcheck.fix import Plan, still_failing
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.checkpoint.errors import clip
from slimspec.checkpoint.publish import check_free, publish

NEW_MODE = 0o640  # of a file that was not there before


def write(source: str | Path, plan: Plan, out: str | Path, producer: str | None = None) -> None:
    """Write the checkpoint at `source` with the edits of `plan` to the new directory `out`.

    Weights become hard links where the file system allows it, else copies; other files are copied.
    The result is judged before it gets its name.

    Raises:
        CheckpointError: `out` exists, lies in `source`, or cannot be written; `source` holds
            something that is neither a file nor a directory; a repair did not repair.
    """
    source, out = Path(source), Path(out)
    check_free(out, overwrite=False)
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise CheckpointError(f"{clip(str(out))}: the output would lie in its source")
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{out.name}.partial-", dir=out.parent))
        edited = {edit.file for edit in plan.edits}
        _place(source, folder, "", edited)
        for edit in plan.edits:
            if edit.content is not None:
                _write(folder / edit.file, edit.content, source / edit.file)
        folder.chmod(stat.S_IMODE(source.stat().st_mode))
        wrong = still_failing(open_checkpoint(folder), plan.edits, producer)
        if wrong:
            ids = ", ".join(sorted(wrong))
            raise CheckpointError(f"{clip(str(out))}: not written: {ids} would stay violated")
        publish(folder, out, overwrite=False)
    except OSError as error:
        raise CheckpointError(f"{clip(str(out))}: cannot be written: {error.strerror}") from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _place(source: Path, target: Path, inside: str, edited: set[str]) -> None:
    """Link or copy every file below `source` that is not edited."""
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        name = inside + entry.name
        if name in edited:
            continue
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            (target / entry.name).mkdir()
            _place(path, target / entry.name, name + "/", edited)
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

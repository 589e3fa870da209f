"""What keeps pytest from running the directory that is judged.

pytest loads the conftest.py of every path that it is given, takes its settings from the file
nearest to them, and takes the value of an option that it does not know yet for a path.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

_PLUGIN = Path("conformance", "slimcheck", "plugin.py")  # marks the root of a source tree


def paths_to_run(config: pytest.Config) -> list[Path]:
    """The paths that pytest was given, or the directory it was started in."""
    start = config.invocation_params.dir
    given = [start / name.split("::")[0] for name in config.known_args_namespace.file_or_dir]
    return [path for path in given if path.exists()] or [start]


def in_source_tree(config: pytest.Config) -> bool:
    """Whether pytest was started in the source tree of this project, or given a path in it."""
    paths = [config.invocation_params.dir, *paths_to_run(config)]
    return any((root / _PLUGIN).is_file() for p in map(Path.absolute, paths) for root in upward(p))


def upward(path: Path) -> Iterable[Path]:
    return (path, *path.parents)


def inside(path: Path, directory: Path) -> bool:
    """Whether `path`, all links followed, is `directory` or in it."""
    return path.resolve().is_relative_to(directory.resolve())


def refuse_its_code(config: pytest.Config, directory: Path) -> None:
    """Stop before a conftest.py or setting of `directory` has an effect on the session.

    Settings are read before any plugin is asked, so they are refused afterwards: what they load
    by `-p` has then run. Written `--slimcheck-checkpoint=DIR`, they are not read at all.

    Raises:
        pytest.UsageError: the session would take settings or code from `directory`.
    """
    advice = "write --slimcheck-checkpoint=DIR with '=', and start pytest elsewhere"
    if config.inipath is not None and inside(config.inipath, directory):
        raise pytest.UsageError(
            f"{config.inipath}: the settings of pytest lie in the directory to judge: {advice}"
        )
    for path in paths_to_run(config):
        # pytest loads the conftest.py of a path and of its directories test*
        below = path.glob("test*/conftest.py") if path.is_dir() else ()
        for place in (path, *below):
            if inside(place, directory):
                raise pytest.UsageError(
                    f"{place}: pytest would run code of the directory to judge: {advice}"
                )

"""A progress bar over bytes, shown only at a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from slimspec.patterns import visible


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances the bar by a number of bytes."""
    console = Console(stderr=True)
    bar = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}", markup=False),
        *bar,
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(visible(title), total=total)
        yield lambda nbytes: progress.advance(task, nbytes)

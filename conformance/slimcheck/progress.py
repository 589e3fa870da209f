"""A progress bar over the bytes of a value scan, shown only at a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from slimcheck.values.scan import Progress as Advance


@contextmanager
def scan_bar() -> Iterator[Advance]:
    """Yield what `scan` calls: it draws on standard error where that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        tasks: list[TaskID] = []

        def advance(nbytes: int, total: int) -> None:
            if not tasks or bar.tasks[tasks[-1]].finished:
                tasks.append(bar.add_task("values", total=total))
            bar.advance(tasks[-1], nbytes)

        yield advance

"""The value scan on an existing Dask cluster: one task per weights file, the same findings.

Every worker must have slimcheck and see the directory under the same path. A worker opens it once;
tasks come back in any order and are put together in file order, as the local scan does. Dask sends
objects as pickles: name only a scheduler that you trust.
"""

import glob
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from slimcheck import registry
from slimcheck.engine import Options, contexts_of
from slimcheck.values.scan import Progress, scan, select
from slimspec import requirements
from slimspec.checkpoint import CheckpointError, open_checkpoint

if TYPE_CHECKING:
    from slimcheck.context import Context
    from slimcheck.findings import Finding
    from slimcheck.values.modules import Module

_PATIENCE = "10s"  # to reach the scheduler
_lock = threading.Lock()  # tasks of one worker share what was read of the headers


class ClusterError(Exception):
    """The cluster cannot do the work; the message is one line."""


@dataclass(frozen=True)
class Task:
    """One weights file to scan; everything a worker needs to know."""

    directory: str
    options: Options
    prefix: str  # of the context: "" or "part0-of-2/"
    file: str
    keys: tuple[str, ...]  # requirements to judge
    tensors: int  # in the directory, as the client sees it
    nbytes: int


@dataclass(frozen=True)
class Done:
    """What a worker says of one file."""

    findings: "list[Finding]"
    applied: set[str]
    fingerprints: dict[str, bytes]
    nbytes: int


def scan_file(task: Task) -> Done:
    """Scan one file; runs on a worker.

    Raises:
        ClusterError: the worker sees no directory there, or another one.
    """
    context = _context(task.directory, task.options, task.prefix)
    table = context.checkpoint.table
    if (len(table), table.nbytes) != (task.tensors, task.nbytes):
        raise ClusterError(f"a worker sees another {task.directory}: {len(table)} tensors")
    catalogue, rules = requirements.load(), registry.value_rules()
    chosen = [(rules[key], catalogue[key].types) for key in task.keys]
    work = select(context, task.options.tensor, (glob.escape(task.file),))
    nbytes = sum(module.nbytes for module in work)
    names = [module.name for module in work]
    findings, applied = scan(context, work, chosen, threads=1)
    seen = {name: context.fingerprints[name] for name in names if name in context.fingerprints}
    return Done(findings, applied, seen, nbytes)


def _context(directory: str, options: Options, prefix: str) -> "Context":
    with _lock:
        context = _contexts(directory, options)[prefix]
        context.class_of  # noqa: B018 - read once, under the lock
        return context


@lru_cache(maxsize=1)
def _contexts(directory: str, options: Options) -> "dict[str, Context]":
    try:
        found = contexts_of(open_checkpoint(directory), options)
    except CheckpointError as error:
        raise ClusterError(f"a worker cannot read the directory: {error}") from None
    return {context.prefix: context for context in found if context.where != "root"}


def scan_on_cluster(
    context: "Context",
    work: "Sequence[Module]",
    keys: Iterable[str],
    options: Options,
    progress: Progress | None = None,
    connect: Callable[[str], AbstractContextManager[Any]] | None = None,
) -> "tuple[list[Finding], set[str]]":
    """Like `values.scan.scan`, with one task per file of `work` on the cluster options.dask.

    Args:
        connect: makes a client from an address (default: distributed.Client).

    Raises:
        ClusterError: no scheduler there, distributed is not installed, or a task failed.
    """
    table = context.checkpoint.table
    # a worker is to see the same directory as this process, whatever its own cluster is
    plain = replace(options, dask="", only_shards=())
    tasks = [
        Task(
            str(context.root.path.resolve()), plain, context.prefix, file, tuple(keys),
            len(table), table.nbytes,
        )
        for file in dict.fromkeys(module.home for module in work)
    ]  # fmt: skip
    total = sum(module.nbytes for module in work)
    with (connect or _connect)(options.dask) as client:
        done = _gather(client, tasks, total, progress)
    findings: list[Finding] = []
    applied: set[str] = set()
    for part in done:
        findings += part.findings
        applied |= part.applied
        context.fingerprints.update(part.fingerprints)
    return findings, applied


def _connect(address: str) -> AbstractContextManager[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError("--dask needs the extra: pip install 'slimspec[dask]'") from None
    try:
        client: AbstractContextManager[Any] = Client(address, timeout=_PATIENCE)
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(f"--dask {address}: no scheduler answers ({error})") from None
    return client


def _gather(
    client: Any, tasks: Sequence[Task], total: int, progress: Progress | None
) -> list[Done]:
    """Results in the order of the tasks; the first failure ends all."""
    from distributed import as_completed

    futures = client.map(scan_file, tasks, pure=False)
    try:
        for future in as_completed(futures):
            done: Done = future.result()
            if progress:
                progress(done.nbytes, total)
        return [future.result() for future in futures]
    except ClusterError:
        raise
    except Exception as error:  # whatever a foreign process raised
        raise ClusterError(f"a task failed: {type(error).__name__}: {error}") from None
    finally:
        client.cancel(futures)

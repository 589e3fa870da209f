"""Run the value rules over all modules: one pass over the files, all rules together.

Modules are taken in the order of their weights in the files. Their number in flight is bounded by
what they hold in memory, their findings are gathered in file order: any number of threads gives
the same report. Kernels and NumPy release the interpreter lock, so threads are enough.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from threading import Lock

import numpy as np

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.registry import ValueRule
from slimcheck.values.lots import read
from slimcheck.values.modules import Module, modules
from slimcheck.values.read_ahead import ReadAhead
from slimcheck.values.stacks import Stack, stacks
from slimspec.checkpoint import CheckpointError

Progress = Callable[[int, int], None]  # bytes done since the last call, bytes in all
Rules = Sequence[tuple[ValueRule, Sequence[str]]]  # with the types that it is about
# (types, cleared) -> the rules left, and the requirements of all rules about such types
Fitting = Callable[[frozenset[str], frozenset[str]], tuple[Sequence[ValueRule], frozenset[str]]]

_IN_FLIGHT = 768 << 20  # bytes of memory; a larger module runs alone
_AHEAD = 512 << 20  # bytes of files that wait behind the oldest job: so far we read ahead
_JOB = 16 << 20  # modules are handed to a thread in lots of about so many bytes
_SMALL_JOB = 64 << 20  # and small ones
_SMALL = 4 << 20  # bytes of a module, below: many are handed over and judged together
_MOST_MODULES = 4096  # of a job, however small: each takes memory while it is judged
_MOST_THREADS = 8
_NONE: frozenset[str] = frozenset()
_turn = Lock()  # of threads with small modules


@dataclass
class Job:
    """Some modules that lie together; what was found is filled in by a thread."""

    modules: list[Module] = field(default_factory=list)
    nbytes: int = 0
    memory: int = 0
    findings: list[Finding] = field(default_factory=list)
    applied: set[str] = field(default_factory=set)

    @property
    def small(self) -> bool:
        """Whether its modules take more time in Python than in kernels."""
        return self.nbytes < _SMALL * len(self.modules)


def select(context: Context, tensor: str | None, shards: Sequence[str]) -> list[Module]:
    """Modules with a tensor that matches `tensor`, whose weight lies in one of `shards`."""
    return [
        module
        for module in modules(context)
        if (
            not tensor
            or any(fnmatchcase(module.tensor(suffix), tensor) for suffix in module.cls.tensors)
        )
        and (not shards or any(fnmatchcase(module.home, glob) for glob in shards))
    ]


def scan(
    context: Context,
    chosen: Iterable[Module],
    rules: Rules,
    *,
    threads: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Finding], set[str]]:
    """Return what the rules say of the modules, and which requirements had something to judge.

    Args:
        threads: 0 takes one per processor; never changes the result.
        progress: called from this thread after each lot of modules.
    """
    findings: list[Finding] = []
    applied: set[str] = set()
    jobs: Iterable[Job] = _jobs(chosen)
    total = 0
    if progress:
        jobs = list(jobs)
        total = sum(job.nbytes for job in jobs)
    for job in _run(context, jobs, _fitting(rules), threads or processors()):
        findings += job.findings
        applied |= job.applied
        if progress:
            progress(job.nbytes, total)
    return findings, applied


def _fitting(rules: Rules) -> Fitting:
    """Return the function from the types of a module, and what is cleared, to its rules."""

    @cache
    def fitting(
        types: frozenset[str], cleared: frozenset[str]
    ) -> tuple[Sequence[ValueRule], frozenset[str]]:
        found = [rule for rule, wanted in rules if not wanted or not types.isdisjoint(wanted)]
        left = [rule for rule in found if rule.requirement not in cleared]
        return left, frozenset(rule.requirement for rule in found)

    return fitting


def processors() -> int:
    """How many threads are worth starting."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 8)


def _jobs(chosen: Iterable[Module]) -> Iterator[Job]:
    job = Job()
    for module in chosen:
        job.modules.append(module)
        job.nbytes += module.nbytes
        job.memory += module.kind.memory[module.number]
        enough = _SMALL_JOB if job.small else _JOB
        if job.nbytes >= enough or len(job.modules) >= _MOST_MODULES:
            yield job
            job = Job()
    if job.modules:
        yield job


def _run(context: Context, jobs: Iterable[Job], fitting: Fitting, threads: int) -> Iterator[Job]:
    """Yield the jobs in order, done."""
    ahead = ReadAhead()
    try:
        if threads == 1:
            waiting: deque[Job] = deque()
            for job in jobs:
                ahead.want(job.modules)
                waiting.append(job)
                if len(waiting) > 1:
                    yield _judge(context, waiting.popleft(), fitting)
            for job in waiting:
                yield _judge(context, job, fitting)
            return
        yield from _run_together(context, jobs, fitting, min(threads, _MOST_THREADS), ahead)
    finally:
        ahead.close()


def _run_together(
    context: Context, jobs: Iterable[Job], fitting: Fitting, threads: int, ahead: ReadAhead
) -> Iterator[Job]:
    pending: deque[tuple[Job, Future[Job]]] = deque()
    memory = behind = 0
    pool = ThreadPoolExecutor(threads, "slimcheck")
    try:
        for job in jobs:
            while pending and (memory + job.memory > _IN_FLIGHT or behind > _AHEAD):
                done, future = pending.popleft()
                memory -= done.memory
                behind -= pending[0][0].nbytes if pending else 0
                yield future.result()
            ahead.want(job.modules)
            behind += job.nbytes if pending else 0
            pending.append((job, pool.submit(_judge, context, job, fitting)))
            memory += job.memory
        while pending:
            yield pending.popleft()[1].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _judge(context: Context, job: Job, fitting: Fitting) -> Job:
    """Fill in what the rules say of the modules, and let go of the modules."""
    small = job.small
    found = list(stacks(job.modules)) if small else []
    read(job.modules, found)
    # threads that contend for the interpreter are slower together than one alone
    with _turn if small else nullcontext(), np.errstate(all="ignore"):  # the rules name damage
        cleared = _cleared(context, found, fitting)
        for module in job.modules:
            try:
                _judge_module(context, module, job, fitting, cleared.get(module.name, _NONE))
            finally:
                module.release()
    job.modules.clear()
    return job


def _cleared(
    context: Context, stacks: Sequence[Stack], fitting: Fitting
) -> dict[str, frozenset[str]]:
    """By module: the requirements of rules that found nothing where they looked at many at once."""
    found: dict[str, frozenset[str]] = {}
    for stack in stacks:
        rules, _ = fitting(stack.types, _NONE)
        try:
            if not stack.alike("weight_offset"):
                continue
            silent = frozenset(
                rule.requirement for rule in rules if rule.clears and rule.clears(context, stack)
            )
        except CheckpointError:  # the members say what cannot be read
            continue
        finally:
            stack.release()
        found |= dict.fromkeys((member.name for member in stack.members), silent)
    return found


def _judge_module(
    context: Context, module: Module, job: Job, fitting: Fitting, cleared: frozenset[str]
) -> None:
    types = module.types
    rules, requirements = fitting(types, cleared)
    try:
        for rule in rules:
            job.findings += rule.check(context, module)
    except CheckpointError as error:
        tensors = tuple(module.tensor(suffix) for suffix in module.cls.tensors)
        job.findings.append(unreadable(tensors, error))
        all_rules, _ = fitting(types, _NONE)
        requirements = frozenset(r.requirement for r in all_rules[: all_rules.index(rule) + 1])
    job.applied |= requirements


def unreadable(tensors: tuple[str, ...], error: CheckpointError) -> Finding:
    """Bytes that a rule needs are not there: the container's requirement is violated."""
    return Finding("IDX-001", "unreadable", str(error), "readable tensor data", tensors)

"""Run the rules over a directory and gather what they say into a report."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from slimcheck import registry
from slimcheck.consumers import Choice, choose
from slimcheck.context import Context
from slimcheck.findings import Finding, Group, gather
from slimcheck.values.scan import Progress, scan, select, unreadable
from slimspec import requirements
from slimspec.checkpoint import Checkpoint, CheckpointError

if TYPE_CHECKING:
    from slimcheck.numeric.records import Comparison
    from slimspec.requirements import Requirement

LEVELS = ("layout", "values", "numeric")


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"  # belongs to a higher level, or was deselected
    WAIVED = "waived"  # violated, and the user accepts all of it


@dataclass(frozen=True)
class Options:
    """What the user asked for (the options of the command and of the pytest plugin)."""

    level: str = "values"
    producer: str | None = None
    consumers: tuple[str, ...] = ()  # engines, as NAME or NAME@VERSION
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    tensor: str | None = None
    strict: bool = False
    tp: int | None = None  # number of tensor-parallel ranks that will serve
    only_shards: tuple[str, ...] = ()  # value rules look at weights in matching files only
    threads: int = 0  # of the value scan; 0 = one per processor
    float_model: str | None = None  # directory that level numeric compares with
    sample: str = "all"  # of the linears, for level numeric
    soc: str = ""  # chip that will serve
    dask: str = ""  # address of a scheduler whose workers scan the values

    def chooses(self, requirement: str) -> bool:
        if self.select and not any(fnmatchcase(requirement, glob) for glob in self.select):
            return False
        return not any(fnmatchcase(requirement, glob) for glob in self.ignore)


@dataclass
class Result:
    """What became of one requirement."""

    requirement: "Requirement"
    status: Status
    groups: list[Group] = field(default_factory=list)
    counts: bool = False  # its violation makes the directory non-conformant
    waived: list[tuple[Group, str]] = field(default_factory=list)  # with the reason


def judge(
    checkpoint: Checkpoint,
    options: Options,
    progress: Progress | None = None,
    comparisons: "list[Comparison] | None" = None,
    contexts: Sequence[Context] | None = None,
) -> list[Result]:
    """Judge a directory: one `Result` per requirement, in catalogue order.

    Args:
        comparisons: filled with the rows of level numeric.
        contexts: of `contexts_of`, if the caller has use for them too.
    """
    contexts = contexts_of(checkpoint, options) if contexts is None else contexts
    catalogue = requirements.load()
    applicable: set[str] = set()
    findings: list[Finding] = []
    for context in contexts:
        chosen = {
            key for key, req in catalogue.items() if options.chooses(key) and _applies(req, context)
        }
        findings += _run_layout(context, chosen, applicable, options)
        if options.level != "layout":
            findings += _run_values(context, chosen, applicable, options, progress)
        if options.level == "numeric" and context.where != "root":
            rows, found, judged = _run_numeric(context, options)
            findings += [finding for finding in found if finding.requirement in chosen]
            applicable |= judged & chosen
            if comparisons is not None:
                comparisons += rows
    if options.tensor:
        findings = [f for f in findings if _about(f, options.tensor)]
    groups: dict[str, list[Group]] = {}
    for group in gather(findings):
        groups.setdefault(group.requirement, []).append(group)
    named = choose(options.consumers, options.soc) if options.consumers else []
    return [
        _result(req, groups.get(key, []), key in applicable, options, named)
        for key, req in catalogue.items()
    ]


def contexts_of(checkpoint: Checkpoint, options: Options) -> list[Context]:
    """What the rules see: the directory, or its root and each part."""
    return list(_contexts(checkpoint, options))


def _contexts(checkpoint: Checkpoint, options: Options) -> Iterator[Context]:
    profile = options.producer or checkpoint.profile.name or ""
    if not checkpoint.parts:
        yield Context(
            checkpoint, checkpoint, "whole", profile, consumers=options.consumers, tp=options.tp
        )
        return
    yield Context(
        checkpoint, checkpoint, "root", profile, consumers=options.consumers, tp=options.tp
    )
    for part in checkpoint.parts:
        yield Context(
            part.checkpoint,
            checkpoint,
            "part",
            profile,
            prefix=part.name + "/",
            consumers=options.consumers,
            tp=options.tp,
        )


def _applies(requirement: "Requirement", context: Context) -> bool:
    """Whether the requirement speaks of this profile and of a type that occurs here."""
    profiles = requirement.scope.profiles
    if profiles and context.profile not in profiles:
        return False
    if requirement.types and context.where != "root":
        return not context.types.isdisjoint(requirement.types)
    return True


def _run_layout(
    context: Context, chosen: set[str], applicable: set[str], options: Options
) -> list[Finding]:
    findings: list[Finding] = []
    for key, rule in registry.layout_rules().items():
        waits = (rule.reads and options.level == "layout") or (rule.needs_tp and options.tp is None)
        if key in chosen and context.where in rule.on and not waits:
            applicable.add(key)
            try:
                findings += rule.check(context)
            except CheckpointError as error:
                findings.append(unreadable((), error))
    return findings


def _run_values(
    context: Context,
    chosen: set[str],
    applicable: set[str],
    options: Options,
    progress: Progress | None,
) -> list[Finding]:
    catalogue = requirements.load()
    rules = [
        (rule, catalogue[key].types)
        for key, rule in registry.value_rules().items()
        if key in chosen
    ]
    if not rules or context.where == "root":
        return []
    work = select(context, options.tensor, options.only_shards)
    if options.dask:
        from slimcheck.distributed import scan_on_cluster

        keys = [rule.requirement for rule, _ in rules]
        findings, applied = scan_on_cluster(context, work, keys, options, progress)
    else:
        findings, applied = scan(context, work, rules, threads=options.threads, progress=progress)
    applicable |= applied
    for key, rule in registry.after_rules().items():
        if key in chosen:
            try:
                findings += rule.check(context)
            except CheckpointError as error:
                findings.append(unreadable((), error))
    return findings


def _run_numeric(
    context: Context, options: Options
) -> "tuple[list[Comparison], list[Finding], set[str]]":
    from slimcheck.numeric.judge import judge_numeric

    if options.float_model is None:
        raise ValueError("level numeric without a float model")
    work = select(context, options.tensor, options.only_shards)
    return judge_numeric(context, work, options.float_model, options.sample, options.threads)


def _about(finding: Finding, glob: str) -> bool:
    return any(fnmatchcase(name, glob) for name in finding.tensors)


def _result(
    requirement: "Requirement",
    groups: list[Group],
    applicable: bool,
    options: Options,
    named: Sequence[Choice],
) -> Result:
    if groups:
        status = Status.FAILED
    elif not options.chooses(requirement.id) or (
        LEVELS.index(requirement.phase) > LEVELS.index(options.level)
    ):
        status = Status.NOT_CHECKED
    elif applicable:
        status = Status.PASSED
    else:
        status = Status.NOT_APPLICABLE
    counts = bool(groups) and _counts(requirement, options, named)
    return Result(requirement, status, groups, counts)


def _counts(requirement: "Requirement", options: Options, named: Sequence[Choice]) -> bool:
    """Whether a violation makes the directory non-conformant.

    MUST of the format or of the producer always does; a consumer's MUST does only when that
    consumer was named; SHOULD does only with `strict`.
    """
    if requirement.level != "MUST" and not options.strict:
        return False
    scope = requirement.scope.consumers
    return not scope or any(
        choice.consumer.binds(requirement.id, scope, choice.version) for choice in named
    )


def nothing_checked(results: Sequence[Result]) -> bool:
    judged = (Status.PASSED, Status.FAILED, Status.WAIVED)
    return not any(result.status in judged for result in results)


def conformant(results: Iterable[Result]) -> bool:
    return not any(result.counts for result in results)

"""The report of one run: what was judged, what was found, what it means."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from slimcheck.consumers import choose
from slimcheck.engine import (
    Options,
    Result,
    Status,
    conformant,
    contexts_of,
    judge,
    nothing_checked,
)
from slimcheck.numeric.records import Comparison
from slimcheck.values.scan import Progress
from slimcheck.verdicts import Verdict, verdicts
from slimcheck.verdicts_seen import look
from slimcheck.waivers import Waiver, apply_waivers
from slimspec.checkpoint import Checkpoint


class ExitCode(IntEnum):
    """0 to 5 are pytest's numbers."""

    CONFORMANT = 0
    NOT_CONFORMANT = 1
    INTERRUPTED = 2
    OUR_BUG = 3
    UNUSABLE = 4  # wrong usage, or a directory that cannot be judged at all
    NOTHING_CHECKED = 5
    WAIVER_UNMATCHED = 6  # conformant, but a waiver meets no finding
    TRUNCATED = 7  # a stored report that is not whole


@dataclass(frozen=True)
class Report:
    """Everything that any output form needs."""

    directory: str
    kind: str
    profile: str
    evidence: tuple[str, ...]
    model_dtype: str | None
    tensors: int
    files: int
    nbytes: int
    types: dict[str, int]  # label -> number of weights
    options: Options
    results: list[Result]
    verdicts: list[Verdict]
    exit_code: ExitCode
    checkpoint: Checkpoint = field(repr=False)
    waivers: tuple[Waiver, ...] = ()
    unmatched: tuple[Waiver, ...] = ()  # waivers that met no finding
    comparisons: tuple[Comparison, ...] = ()  # with the float model, at level numeric

    @property
    def conformant(self) -> bool:
        return self.exit_code in (ExitCode.CONFORMANT, ExitCode.WAIVER_UNMATCHED)

    @property
    def failed(self) -> list[Result]:
        return [result for result in self.results if result.status is Status.FAILED]

    @property
    def counts(self) -> dict[str, int]:
        """Requirements by status, and violated ones by weight."""
        tally = Counter(str(result.status) for result in self.results)
        tally["must"] = sum(r.counts for r in self.failed)
        tally["notes"] = len(self.failed) - tally["must"]
        tally["waived"] = sum(bool(r.waived) for r in self.results)
        return dict(tally)


def build(
    checkpoint: Checkpoint,
    options: Options,
    waivers: Sequence[Waiver] = (),
    progress: Progress | None = None,
) -> Report:
    """Judge a directory and report."""
    if options.only_shards:
        checkpoint.narrow(options.only_shards)
    comparisons: list[Comparison] = []
    contexts = contexts_of(checkpoint, options)
    results = judge(checkpoint, options, progress, comparisons, contexts)
    unmatched = apply_waivers(
        results, waivers, narrowed=options.tensor is not None or bool(options.only_shards)
    )
    holders = [part.checkpoint for part in checkpoint.parts] or [checkpoint]
    seen = look(checkpoint, contexts, read=options.level != "layout")
    choices = choose(options.consumers, options.soc)
    return Report(
        directory=str(checkpoint.path),
        kind=checkpoint.kind,
        profile=options.producer or checkpoint.profile.name or "none",
        evidence=tuple(checkpoint.profile.evidence),
        model_dtype=checkpoint.model_dtype,
        tensors=sum(len(holder.table.names) for holder in holders),
        files=sum(len(holder.shards) for holder in holders),
        nbytes=sum(holder.table.nbytes for holder in holders),
        types=seen.labels,
        options=options,
        results=results,
        verdicts=verdicts(results, seen, choices, soc=options.soc, tp=options.tp),
        exit_code=_exit_code(results, unmatched),
        checkpoint=checkpoint,
        waivers=tuple(waivers),
        unmatched=tuple(unmatched),
        comparisons=tuple(comparisons),
    )


def _exit_code(results: Sequence[Result], unmatched: Sequence[Waiver]) -> ExitCode:
    if nothing_checked(results):
        return ExitCode.NOTHING_CHECKED
    if not conformant(results):
        return ExitCode.NOT_CONFORMANT
    return ExitCode.WAIVER_UNMATCHED if unmatched else ExitCode.CONFORMANT

"""What each consumer engine would do with the directory: one verdict per engine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slimcheck.consumers import Consumer, consumers
from slimcheck.engine import Result, Status

OK = "ok"
WRONG = "loads with wrong results"
FAILS = "will not load"
UNKNOWN = "unknown"
_WORST_FIRST = (FAILS, WRONG, UNKNOWN, OK)


@dataclass(frozen=True, slots=True)
class Verdict:
    consumer: str
    verdict: str
    reasons: tuple[str, ...]  # requirement ids, or a sentence


def layer_kind(weight: str) -> str:
    """Kind of layer a weight belongs to, by its name: "moe" for an expert, else "linear"."""
    return "moe" if ".experts." in weight else "linear"


def verdicts(results: Sequence[Result], used: Iterable[tuple[str, str]]) -> list[Verdict]:
    """One verdict per known consumer.

    Args:
        results: what became of each requirement.
        used: (label, kind of layer) pairs that occur in the checkpoint.
    """
    pairs = sorted(set(used))
    return [_verdict(consumer, results, pairs) for consumer in consumers().values()]


def _verdict(
    consumer: Consumer, results: Sequence[Result], used: Sequence[tuple[str, str]]
) -> Verdict:
    said: dict[str, list[str]] = {}
    unknown = [
        f"{label} ({kind})" for label, kind in used if kind not in consumer.labels.get(label, ())
    ]
    if unknown:
        said.setdefault(FAILS, []).append(f"does not load {', '.join(unknown)}")
    for result in results:
        if result.status is not Status.FAILED or result.requirement.level != "MUST":
            continue
        scope = result.requirement.scope
        if consumer.name in scope.consumers:
            said.setdefault(scope.verdict, []).append(result.requirement.id)
        elif not scope.consumers:
            said.setdefault(UNKNOWN, []).append(result.requirement.id)
    for verdict in _WORST_FIRST:
        if verdict in said:
            return Verdict(consumer.name, verdict, tuple(said[verdict]))
    return Verdict(consumer.name, OK, ())

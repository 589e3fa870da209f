"""What every form for readers shows of a finding: severity, title, fields, in one language."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from slimcheck.consumers import consumers
from slimcheck.engine import Result
from slimcheck.findings import Group
from slimcheck.report.lang import EN, WORDS, fix, said, title, visible, why
from slimcheck.report.model import Report
from slimcheck.verdicts import Verdict
from slimspec.requirements import Requirement

SEVERITIES = ("ERROR", "WARN", "NOTE", "WAIVED")


@dataclass(frozen=True, slots=True)
class Block:
    """One group of findings in words; every text is printable."""

    severity: str  # one of SEVERITIES
    id: str
    title: str
    fields: tuple[tuple[str, str], ...]  # (name, text), both in the language of the block
    group: Group


def blocks(report: Report, lang: str = EN) -> Iterator[Block]:
    """Every finding, what fails first and what is waived last."""
    for result in sorted(report.failed, key=lambda r: not r.counts):
        for group in result.groups:
            yield block(result, group, lang)
    for result in report.results:
        for group, reason in result.waived:
            yield block(result, group, lang, reason)


def worst(report: Report, lang: str = EN, most: int = 200) -> tuple[list[Block], int]:
    """The blocks that a person reads, and how many are left out.

    Of too many the worst are kept, and of equally bad ones the first of each requirement before a
    second of any: so none is hidden behind the many findings of another.
    """
    every = list(blocks(report, lang))
    nth: Counter[str] = Counter()
    ranks = []
    for at, each in enumerate(every):
        nth[each.id] += 1
        ranks.append((SEVERITIES.index(each.severity), nth[each.id], at))
    kept = sorted(at for _, _, at in sorted(ranks)[:most])
    return [every[at] for at in kept], len(every) - len(kept)


def block(result: Result, group: Group, lang: str = EN, reason: str = "") -> Block:
    """One group of findings; `reason` says why it is waived."""
    words, requirement = WORDS[lang], result.requirement
    fields = [
        ("where", _where(group, lang)),
        ("found", said(group.found, lang)),
        ("expected", said(group.expected, lang) + _source(requirement, lang)),
        ("effect", _effect(result, group.kind, lang)),
        ("fix", fix(requirement, group.kind, lang)),
    ]
    if reason:
        fields.append(("reason", reason))
    return Block(
        "WAIVED" if reason else severity_of(result),
        requirement.id,
        title(requirement, lang),
        tuple((words[name], visible(text)) for name, text in fields),
        group,
    )


def _source(requirement: Requirement, lang: str) -> str:
    """The first source of the requirement, behind what it expects; in Chinese no sentence of it."""
    if not requirement.source:
        return ""
    source = requirement.source[0]
    if lang == EN:
        return f"  ({source})"
    return f"（{WORDS[lang].get(source.partition(':')[0], source)}）"


def severity_of(result: Result) -> str:
    """ERROR decides the exit code; WARN is a SHOULD; NOTE concerns an engine not asked for."""
    if result.counts:
        return "ERROR"
    return "WARN" if result.requirement.level == "SHOULD" else "NOTE"


def _where(group: Group, lang: str) -> str:
    where = group.pattern or group.file or WORDS[lang]["the directory"]
    if group.count > 1:
        where += f"  ({group.count}×)"
    if group.pattern and group.file:
        where += f"  {WORDS[lang]['in']} {group.file}"
    return where


def _effect(result: Result, kind: str, lang: str) -> str:
    reason = why(result.requirement, kind, lang)
    engines = ", ".join(result.requirement.scope.consumers)
    return f"{engines}: {reason}" if engines else reason


def heading(report: Report, lang: str = EN) -> tuple[str, str]:
    """Who wrote the directory, and what is in it: two lines."""
    words = WORDS[lang]
    who = words["who"].format(
        profile=report.profile,
        evidence=words["between"].join(said(each, lang) for each in report.evidence),
        dtype=report.model_dtype or words["unknown dtype"],
        level=report.options.level,
    )
    what = words["size"].format(
        tensors=report.tensors, files=report.files, bytes=f"{report.nbytes:,}"
    )
    types = ", ".join(f"{label} ×{count}" for label, count in sorted(report.types.items()))
    if types:
        what += words["weights"].format(types)
    return visible(who), visible(what)


def conclusion(report: Report, lang: str = EN) -> tuple[str, str]:
    """The verdict, and the counts behind it."""
    words, counts = WORDS[lang], report.counts
    verdict = words[report.exit_code.name].format(profile=report.profile)
    tally = [("violated", counts["must"]), ("passed", counts.get("passed", 0))]
    tally += [
        (key, n) for key, n in (("to note", counts["notes"]), ("waived", counts["waived"])) if n
    ]
    return verdict, words["and so on"].join(words[key].format(count) for key, count in tally)


def reasons(verdict: Verdict, lang: str = EN) -> str:
    """Why an engine would do so, on one line."""
    return visible(WORDS[lang]["between"].join(said(each, lang) for each in verdict.reasons))


def serve(verdict: Verdict, lang: str = EN) -> str:
    """How to start the engine. A command stays as it is: a path may hold any words."""
    engine = consumers()[verdict.consumer.partition("@")[0]]
    return verdict.serve if "{dir}" in engine.serve else said(verdict.serve, lang)


def unmatched(report: Report, lang: str = EN) -> list[str]:
    """One line per waiver that waived nothing."""
    text = WORDS[lang]["unmatched"]
    return [
        text.format(waiver=visible(f"{w.requirement} {w.pattern}"), line=w.line)
        for w in report.unmatched
    ]

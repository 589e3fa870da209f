"""What a rule says: a finding, and findings of one kind gathered into a group."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from slimspec.patterns import collapse

_MOST = 10_000  # groups of a requirement, kind and expectation


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation of one requirement.

    Attributes:
        requirement: id such as "W8A8-003".
        kind: short problem code, stable within the requirement ("missing", "dtype", "value", …);
            findings of the same requirement and kind are shown as one group, and the requirement
            may have a fix of its own for the kind.
        tensors: the tensor (or module, or file) names concerned; empty for the whole directory.
        file: where, relative to the checkpoint directory ("" = several or none).
        found: what is there.
        expected: what the specification asks for.
    """

    requirement: str
    kind: str
    found: str
    expected: str
    tensors: tuple[str, ...] = ()
    file: str = ""


@dataclass(slots=True)
class Group:
    """Findings of one requirement and kind that say the same of many tensors."""

    requirement: str
    kind: str
    found: str
    expected: str
    tensors: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    findings: int = 0

    @property
    def pattern(self) -> str:
        return collapse(self.tensors)

    @property
    def file(self) -> str:
        return collapse(sorted(self.files))

    @property
    def count(self) -> int:
        return len(self.tensors) or self.findings


def gather(findings: Iterable[Finding]) -> list[Group]:
    """Group findings by requirement, kind, expectation and the last part of the tensor name.

    The first finding of a group lends it `found`: one example says more than a merged sentence.
    After very many groups that differ by the tensor only, the rest is one: a hostile file would
    fill the memory with them.
    """
    groups: dict[tuple[str, ...], Group] = {}
    alike: Counter[tuple[str, ...]] = Counter()  # groups that differ by their tensors only
    for finding in findings:
        leaf = finding.tensors[0].rpartition(".")[2] if finding.tensors else finding.file
        depth = str(finding.tensors[0].count(".")) if finding.tensors else ""
        key: tuple[str, ...] = (
            finding.requirement, finding.kind, finding.expected, leaf, depth,
        )  # fmt: skip
        group = groups.get(key)
        if group is None and alike[key[:3]] >= _MOST:
            key = key[:3]
            group = groups.get(key)
        if group is None:
            alike[key[:3]] += 1
            group = groups[key] = Group(
                finding.requirement,
                finding.kind,
                finding.found,
                finding.expected,
            )
        group.tensors.extend(finding.tensors)
        group.findings += 1
        if finding.file:
            group.files.add(finding.file)
    return list(groups.values())

"""Redo every linear of a recorded run and compare bytes, dtypes, shapes and the tensor set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimspec import layout, schemes
from slimspec.checkpoint import open_checkpoint
from slimspec.checkpoint.dtypes import tag_of
from slimspec.schemes.wrapper import Wrapper

from .attention import attentions, requantize
from .case import Case, Output
from .plan import STORED, NotReplayedError, plan
from .wrapped import plan_wrapped


@dataclass
class LinearReport:
    """One linear of one output: what was compared and what differs."""

    output: str
    name: str
    label: str
    method: str
    source: str
    exact: bool = True
    unknown: str = ""
    tensors: int = 0
    codes: int = 0
    equal_codes: int = 0
    mismatches: list[str] = field(default_factory=list)


@dataclass
class CaseReport:
    """A recorded run: its linears, and reason -> how many linears were not redone."""

    name: str
    linears: list[LinearReport] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def tensors(self) -> int:
        return sum(x.tensors for x in self.linears)

    @property
    def mismatches(self) -> list[str]:
        return [f"{x.output} {x.name}: {m}" for x in self.linears for m in x.mismatches]

    @property
    def equal_share(self) -> float | None:
        """Return the share of weight codes that are equal; None where nothing was compared."""
        total = sum(x.codes for x in self.linears)
        return sum(x.equal_codes for x in self.linears) / total if total else None

    @property
    def methods(self) -> list[str]:
        return sorted({f"{x.label} {x.method}, {x.source}" for x in self.linears})


@cache
def replay(path: Path) -> CaseReport:
    """Redo one recorded run; what is outside the reproducible kinds is counted with its reason."""
    case, report = Case(path), CaseReport(path.name)
    if not case.outputs:
        report.skipped["no quantized checkpoint with a description"] += 1
    for output in case.outputs:
        profile = open_checkpoint(output.path).profile.name
        for name, label in linears(output).items():
            try:
                report.linears.append(_redo(case, output, profile, name, label))
            except NotReplayedError as why:
                report.skipped[f"{label}: {why}"] += 1
        for module, label, stored in attentions(output, profile):
            try:
                report.linears.append(_redo_attention(case, output, profile, module, label, stored))
            except NotReplayedError as why:
                report.skipped[f"{label}: {why}"] += 1
    return report


def linears(output: Output) -> dict[str, str]:
    """Return linear -> label; norms and the parents of TP shards are left out."""
    found = {}
    for name, label in output.labels.items():
        linear = name.removesuffix(".weight")
        parent = f"{linear}.tp_list.0.weight" in output.labels
        if (
            name != linear
            and not parent
            and not (label == "FLOAT" and output.tensors.ndim(name) < 2)
        ):
            found[linear] = label
    return found


def _redo(case: Case, output: Output, profile: str | None, name: str, label: str) -> LinearReport:
    try:
        scheme = schemes.get(label)
        layout.rules(label, profile or "")
    except ValueError as refused:
        raise NotReplayedError(_cause(refused, profile)) from None
    assert profile is not None
    stored = _stored(output, name, profile)
    how = plan_wrapped if isinstance(scheme, Wrapper) else plan
    made = how(case, name, scheme, stored)
    report = LinearReport(
        output.path.name,
        name,
        label,
        made.method,
        made.unknown or made.source,
        exact=made.exact,
        unknown=made.unknown,
    )
    try:
        q = made.quantize(scheme)
        tensors = scheme.tensors(q, profile, str(tag_of(made.linear.weight.dtype)))
    except ValueError as refused:
        report.mismatches.append(f"refused: {refused}")
        return report
    given = ("input_scale", "input_offset") if made.source == STORED else ()
    _compare(tensors, stored, report, given)
    if label != "FLOAT" or not made.exact:
        codes = scheme.from_tensors(stored, profile, name).weight
        report.codes = codes.size
        report.equal_codes = _equal(q.weight, codes)
    return report


def _cause(refused: ValueError, profile: str | None) -> str:
    return f"profile {profile}" if isinstance(refused, layout.LayoutError) else "no scheme"


def _redo_attention(
    case: Case,
    output: Output,
    profile: str | None,
    module: str,
    label: str,
    stored: Mapping[str, NDArray],
) -> LinearReport:
    made, source, exact = requantize(case, module, label, stored)
    report = LinearReport(output.path.name, module, label, "min-max", source, exact=exact)
    scheme = schemes.attention_schemes()[label]
    tensors = scheme.tensors(made, str(profile), _model_dtype(case))
    _compare(tensors, stored, report, ())
    for suffix in tensors.keys() & stored.keys():
        report.codes += stored[suffix].size
        report.equal_codes += int((tensors[suffix] == stored[suffix]).sum())
    return report


def _model_dtype(case: Case) -> str:
    """Return the tag of the float model as it was loaded."""
    first = next(name for name in case.model if name.endswith("embed_tokens.weight"))
    loaded = case.recipe.get("load_dtype") == "fp32"
    return "F32" if loaded else str(tag_of(case.model[first].dtype))


def _stored(output: Output, name: str, profile: str) -> dict[str, NDArray]:
    """Return suffix -> tensor of one linear, without what hangs on it for other reasons."""
    prefix, own = f"{name}.", (output.labels[f"{name}.weight"], "FLOAT")
    other = layout.attachments(profile).keys() - layout.rules(own[0], profile).keys()
    names = [n for n, label in output.labels.items() if n.startswith(prefix) and label in own]
    found = {n.removeprefix(prefix): output.tensors[n] for n in names}
    if own == ("FLOAT", "FLOAT"):  # a float module keeps its other parameters under their own names
        return {
            suffix: t
            for suffix, t in found.items()
            if suffix in layout.load("FLOAT").rules(profile)
        }
    return {suffix: t for suffix, t in found.items() if suffix not in other and "." not in suffix}


def _compare(
    made: Mapping[str, NDArray],
    stored: Mapping[str, NDArray],
    report: LinearReport,
    given: tuple[str, ...],
) -> None:
    """Compare every tensor but those that were `given` to us by the checkpoint itself."""
    for suffix in sorted((made.keys() | stored.keys()) - set(given)):
        if suffix not in stored or suffix not in made:
            side = "not stored" if suffix not in stored else "not made"
            report.mismatches.append(f"{suffix} {side}")
            continue
        ours, theirs = made[suffix], stored[suffix]
        report.tensors += 1
        if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            report.mismatches.append(
                f"{suffix} {ours.dtype}{ours.shape}, stored {theirs.dtype}{theirs.shape}"
            )
            continue
        equal = _equal(ours, theirs)
        if equal < ours.size:
            report.mismatches.append(f"{suffix} differs in {ours.size - equal} of {ours.size}")


def _equal(ours: NDArray, theirs: NDArray) -> int:
    """Return how many elements have the same bits; both of one dtype and size."""
    same = bytes_of(ours) == bytes_of(theirs)
    return int(same.reshape(ours.size, -1).all(axis=1).sum())


def bytes_of(array: NDArray) -> NDArray[np.uint8]:
    """Return the bytes, so that equal means equal bits."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


__all__ = ["CaseReport", "LinearReport", "replay"]

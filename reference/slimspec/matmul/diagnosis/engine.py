"""The search behind `diagnose`: an operation as a set of choices, compared bit for bit.

An `Op` has axes (how is the quotient made, how is it rounded, ...); each axis lists choices by name
and the first one is normative. A variant is one choice per axis, with at most `MAX_DEVIATIONS`
that are not the normative one. The variant with the largest share of equal elements wins, fewer
deviations first.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DEVIATIONS = 2
CANONICAL = "canonical"


@dataclass(frozen=True)
class Op:
    """An operation: axes {axis: {choice: value}} and `run(choice, **inputs)`.

    `known` gives a name to a set of deviations, e.g. the profile that has exactly those.
    """

    name: str
    axes: Mapping[str, Mapping[str, Any]]
    run: Callable[..., Any]
    known: Mapping[frozenset[str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """One variant: its deviations from the normative choices and how much of the output it is."""

    variant: str
    deviations: tuple[str, ...]
    equal: int
    total: int
    first: tuple[int, ...] | None  # first element that differs (of the first output that does)

    @property
    def share(self) -> float:
        """Equal elements over all, 1.0 for an empty output."""
        return self.equal / self.total if self.total else 1.0


@dataclass(frozen=True)
class Diagnosis:
    """Matches of an operation, best first."""

    op: str
    matches: tuple[Match, ...]

    @property
    def best(self) -> Match:
        """The variant with the largest share; the one with fewer deviations at a tie."""
        return self.matches[0]

    @property
    def exact(self) -> tuple[Match, ...]:
        """Variants equal in every bit, those with the fewest deviations only."""
        full = [m for m in self.matches if m.equal == m.total]
        return tuple(m for m in full if len(m.deviations) == len(full[0].deviations))

    @property
    def canonical(self) -> Match:
        """The normative variant."""
        return next(m for m in self.matches if not m.deviations)

    def verdict(self) -> str:
        """One sentence: what the output follows, and how far the normative form goes."""
        if self.exact:
            names = '" or "'.join(m.variant for m in self.exact)
            text = f'{self.op}: all {self.best.total} elements equal "{names}"'
        else:
            best = self.best
            text = (
                f'{self.op}: no known variant; nearest is "{best.variant}", {best.share:.4%} of '
                f"{best.total} elements, first difference at {list(best.first or ())}"
            )
        if self.best.deviations:
            text += f"; canonical explains {self.canonical.share:.4%}"
        return text


def explain(op: Op, output: Any, inputs: Mapping[str, Any]) -> Diagnosis:
    """Run every variant of `op` and rank them against `output`.

    Raises:
        ValueError: no variant has the shapes and dtypes of the output.
    """
    found = _arrays(output)
    matches = [m for v in variants(op) if (m := _match(op, v, found, inputs)) is not None]
    if not any(not m.deviations for m in matches):
        normative = _arrays(op.run(_choice(op, {}), **inputs))
        raise ValueError(f"{op.name}: expected {_shapes(normative)}, found {_shapes(found)}")
    matches.sort(key=lambda m: (-m.equal, len(m.deviations)))
    return Diagnosis(op.name, tuple(matches))


def variants(op: Op) -> Iterator[dict[str, str]]:
    """{axis: choice} of the deviating axes, fewest deviations first."""
    for count in range(MAX_DEVIATIONS + 1):
        for axes in combinations(op.axes, count):
            for names in product(*(list(op.axes[a])[1:] for a in axes)):
                yield dict(zip(axes, names, strict=True))


def _choice(op: Op, deviations: Mapping[str, str]) -> dict[str, Any]:
    return {a: c[deviations.get(a, next(iter(c)))] for a, c in op.axes.items()}


def _match(
    op: Op, deviations: Mapping[str, str], found: list[NDArray], inputs: Mapping[str, Any]
) -> Match | None:
    expected = _arrays(op.run(_choice(op, deviations), **inputs))
    if _shapes(expected) != _shapes(found):
        return None
    equal = [same_bits(e, f) for e, f in zip(expected, found, strict=True)]
    names = tuple(deviations.values())
    label = op.known.get(frozenset(names), " + ".join(names) or CANONICAL)
    differs = [tuple(int(i) for i in np.argwhere(~e)[0]) for e in equal if not e.all()]
    counts = sum(int(e.sum()) for e in equal), sum(e.size for e in equal)
    return Match(label, names, *counts, differs[0] if differs else None)


def same_bits(left: NDArray, right: NDArray) -> NDArray[np.bool_]:
    """Elementwise equality of bits; two NaNs are equal, +0 and −0 are not."""
    kind = np.dtype(f"u{left.dtype.itemsize}")
    equal = np.ascontiguousarray(left).view(kind) == np.ascontiguousarray(right).view(kind)
    if left.dtype.kind in "iub":
        return equal
    return equal | (np.isnan(left) & np.isnan(right))


def _arrays(output: Any) -> list[NDArray]:
    return [np.asarray(o) for o in output] if isinstance(output, tuple) else [np.asarray(output)]


def _shapes(arrays: list[NDArray]) -> str:
    return ", ".join(f"{a.dtype} {a.shape}" for a in arrays)

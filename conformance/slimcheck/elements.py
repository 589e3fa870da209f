"""Findings about single elements of a tensor: which, what it is, and how many are wrong."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.findings import Finding
from slimcheck.values.modules import Module

Mask = NDArray[np.bool_]


def wrong_elements(
    requirement: str,
    module: Module,
    suffix: str,
    wrong: Mask,
    expected: str,
    *,
    kind: str = "value",
    values: NDArray[Any] | None = None,
    instead: NDArray[Any] | None = None,
    note: str = "",
) -> Iterator[Finding]:
    """One finding that names the first wrong element of a tensor, if there is one.

    Args:
        wrong: which elements are wrong, in the shape of the tensor.
        values: what to show of them (default: the elements themselves).
        instead: what each should be, where that is known.
        note: what is recognisable in the error, such as its likely cause.
    """
    count = int(np.count_nonzero(wrong))
    if not count:
        return
    at = first(wrong)
    shown = module.array(suffix) if values is None else values
    found = f"{place('element', at)}: {number(shown[at])}"
    if instead is not None:
        found += f" instead of {number(instead[at])}"
    if wrong.size > 1:
        found += f"; {count} of {wrong.size} elements"
    if note:
        found += f"; {note}"
    name = module.tensor(suffix)
    yield Finding(requirement, kind, found, expected, (name,), module.file(suffix))


def wrong_rows(
    requirement: str,
    module: Module,
    wrong: Mask,
    said: NDArray[Any],
    what: str,
    expected: str,
    *,
    kind: str = "value",
) -> Iterator[Finding]:
    """One finding about the first wrong row of the weight: `row [5]: WHAT said[5]`."""
    count = int(np.count_nonzero(wrong))
    if count:
        at = first(wrong)
        found = f"{place('row', at)}: {what} {number(said[at])}; {count} of {wrong.size} rows"
        name = module.tensor("weight")
        yield Finding(requirement, kind, found, expected, (name,), module.file("weight"))


def first(wrong: Mask) -> tuple[int, ...]:
    """Index of the first True."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))


def place(what: str, at: tuple[int, ...]) -> str:
    return f"{what} {list(at)}" if at else "the value"


def number(x: Any) -> str:
    """An integer in full; a float in the digits that tell float32 numbers apart."""
    return str(int(x)) if np.asarray(x).dtype.kind in "iub" else f"{float(x):.9g}"

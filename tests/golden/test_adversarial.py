"""Every adversarial property is in the data of the vectors, and a predicate can fail."""

import dataclasses

import numpy as np
import pytest

from slimspec.golden import VectorCase, cases
from slimspec.golden.adversarial import PROPERTIES
from slimspec.golden.operations import operations

PAIRS = [(name, op) for name, (_, ops) in PROPERTIES.items() for op in ops]


@pytest.mark.parametrize(("name", "op"), PAIRS, ids=[f"{op}: {name}" for name, op in PAIRS])
def test_some_vector_has_the_property(name: str, op: str) -> None:
    holds = PROPERTIES[name][0]
    assert any(holds(case) for case in cases(op)), f"no vector of {op} has {name}"


def flattened(case: VectorCase, value: int) -> VectorCase:
    """The case with one value in every input and output."""
    parts = {
        part: {name: np.full_like(array, value) for name, array in getattr(case, part).items()}
        for part in ("inputs", "intermediates", "outputs")
    }
    return dataclasses.replace(case, **parts)  # type: ignore[arg-type]


# what sizes decide, or what equal numbers have too
_EXCEPT = {
    "remainders of blocks and tiles", "query heads that share a key",
    "float16 and bfloat16 arithmetic", "an expert without a token",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in PROPERTIES if name not in _EXCEPT])
def test_no_property_holds_for_nothing_but_zeros_or_ones(name: str) -> None:
    holds, ops = PROPERTIES[name]
    with np.errstate(all="ignore"):
        of_ones, of_zeros = (
            [case.id for op in ops for case in cases(op) if holds(flattened(case, value))]
            for value in (1, 0)
        )
    assert not (of_ones and of_zeros)


def test_properties_are_about_known_operations() -> None:
    assert {op for _, ops in PROPERTIES.values() for op in ops} <= set(operations())

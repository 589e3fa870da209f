"""Bigger vectors on demand: random inputs of a given shape, outputs by the reference."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slimspec.golden.contents.model import Definition
from slimspec.golden.operations import operation, operations
from slimspec.golden.vectors import cases
from slimspec.golden.vectors_build import write_cases

SIZES = ("m", "n", "k", "g")


def generate(
    op: str, sizes: Mapping[str, int], seed: int, attributes: Mapping[str, Any], count: int = 1
) -> list[Definition]:
    """Return random vectors with origin "reference"; the same arguments make the same bytes.

    Args:
        op: an operation that can make samples.
        sizes: any of m, n, k, g.
        seed: of a generator whose stream NumPy keeps.
        attributes: replace those of the sample.
        count: how many; each takes its own stream.

    Raises:
        ValueError: an operation without samples, an attribute that none of its vectors has, or
            sizes, a seed or a count that are none.
    """
    found = operation(op)
    if found.sample is None:
        able = ", ".join(name for name, each in operations().items() if each.sample)
        raise ValueError(f"operation {op!r} makes no samples; these do: {able}")
    for name, size in sizes.items():
        if name not in SIZES or size < 1:
            raise ValueError(f"size {name}={size}: expected m, n, k or g of at least 1")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed {seed}: expected one from 0 to 2**32 - 1")
    if count < 1:
        raise ValueError(f"count {count}: expected at least 1")
    _check_attributes(op, attributes)
    made = []
    for number in range(count):
        inputs, given = found.sample(np.random.RandomState([seed, number]), sizes, attributes)
        numerics = given.pop("numerics", "canonical")
        comment = f"random, seed {seed}, number {number}, sizes {json.dumps(dict(sizes))}"
        made.append(
            Definition(op, f"s{seed}-{number:03}", comment, inputs, None, given,
                       numerics=numerics, origin="reference", source="slimspec.golden.generate")
        )  # fmt: skip
    return made


def _check_attributes(op: str, attributes: Mapping[str, Any]) -> None:
    known = {"numerics"}.union(*(case.attributes for case in cases(op)))
    for name in attributes:
        if name not in known:
            expected = ", ".join(sorted(known))
            raise ValueError(f"attribute {name!r} of {op}: expected one of {expected}")


def write_generated(path: Path, made: list[Definition]) -> None:
    """Write vectors as a case file and its tensors, in the form of `golden/vectors`.

    Raises:
        ValueError: a file that exists.
    """
    names = [f"{made[0].op}{ending}" for ending in (".safetensors", ".json")]
    for target in (path / name for name in names):
        if os.path.lexists(target):
            raise ValueError(f"{target}: exists; nothing is overwritten")
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".golden-", dir=path) as place:
        write_cases(Path(place, names[-1]), made, "slimspec golden generate")
        for name in names:
            Path(place, name).rename(path / name)

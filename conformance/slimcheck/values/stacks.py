"""Small modules of one class, one below the other, looked at as one module of more rows.

Most rules judge each row by itself: what they do not find in a stack they do not find in a member.
What some ask of the whole module first, whether it has offsets, the members have to have alike.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import ModuleClass
from slimcheck.kept import kept
from slimcheck.values.blocks import Blocks
from slimcheck.values.forms import Form
from slimcheck.values.integers import IntegerStats
from slimcheck.values.kinds import Kind
from slimcheck.values.modules import Module
from slimcheck.values.words import WordStats

_NUMBER = re.compile(r"\d+")


class Stack(Module):
    """Modules whose tensors all have a row for each row of the weight.

    Attributes:
        members: the modules; their class and, but for numbers, their name are the same.
    """

    def __init__(self, members: Sequence[Module]) -> None:
        first, count = members[0], len(members)
        tensors = {
            suffix: replace(spec, shape=(count * spec.shape[0], *spec.shape[1:]))
            for suffix, spec in first.cls.tensors.items()
        }
        kind = Kind(first.kind.context, ModuleClass(first.cls.label, tensors))
        super().__init__(kind, first.name)
        self.members = members

    def each(self, rows: NDArray[Any]) -> NDArray[Any]:
        """[members, …]: what the stack has for each row, by member."""
        return rows.reshape(len(self.members), -1)

    def alike(self, suffix: str) -> bool:
        """Whether a tensor is of zeros in all members or in none, or they have none."""
        if suffix not in self:
            return True
        some = self.each(self.array(suffix) != 0).any(axis=1)
        return bool(some.all() == some.any())

    @kept
    def types(self) -> frozenset[str]:
        return self.members[0].types

    @kept
    def form(self) -> Form | None:
        form = self.members[0].form
        if form is None:
            return None
        n, k = form.shape
        return replace(form, shape=(len(self.members) * n, k))

    def _read(self, suffix: str) -> NDArray[Any]:
        return np.concatenate([member.array(suffix) for member in self.members])

    @kept
    def integers(self) -> IntegerStats | None:
        """The statistics of the members, but that their blocks have no place in the stack.

        `beyond` is the largest of a member.
        """
        found = [member.integers for member in self.members]
        known = [stats for stats in found if stats is not None]
        if len(known) < len(found):
            return None
        sums = [stats.sums for stats in known if stats.sums is not None]
        return IntegerStats(
            np.concatenate([stats.least for stats in known]),
            np.concatenate([stats.most for stats in known]),
            np.concatenate(sums) if len(sums) == len(known) else None,
            max(stats.beyond for stats in known),
            _together([stats.blocks for stats in known]),
            np.concatenate([stats.ends for stats in known]),
            np.empty(0, np.uint8),
        )

    def words(self, suffix: str) -> WordStats:
        """The statistics of the members: some number that is not finite, blocks without a place."""
        tensor = self._of(suffix)
        if tensor.words is None:
            found = [member.words(suffix) for member in self.members]
            first = max(stats.not_finite for stats in found)
            blocks = _together([stats.blocks for stats in found])
            tensor.words = WordStats(first, blocks, found[0].sample[:0])
        return tensor.words


def _together(parts: Sequence[Blocks]) -> Blocks:
    """Blocks of several tensors, whose places say nothing."""
    return Blocks(0, parts[0].step, np.concatenate([part.constant for part in parts]))


def stacks(modules: Sequence[Module]) -> Iterator[Stack]:
    """Yield the stacks of modules, each of at least two."""
    alike: dict[tuple[int, str], list[Module]] = {}
    for module in modules:
        if module.kind.has_rows_only:
            alike.setdefault((id(module.kind), _pattern(module.name)), []).append(module)
    for members in alike.values():
        if len(members) > 1:
            yield Stack(members)


@lru_cache(4096)
def _pattern(name: str) -> str:
    """A name without its numbers: rules ask for nothing but words."""
    return _NUMBER.sub("#", name)

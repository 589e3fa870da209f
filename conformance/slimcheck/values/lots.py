"""Modules that lie together are read in few calls, and their integers counted as they are read.

Of small modules the calls would take longer than the bytes; in one long call without the
interpreter lock, another thread judges what was read before.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from slimcheck.values.blocks import CAN_READ
from slimcheck.values.integers import Matrix, lot_stats
from slimcheck.values.modules import Module
from slimcheck.values.stacks import Stack
from slimcheck.values.words import Words, word_lot
from slimspec.checkpoint.stored import MAP_FROM
from slimspec.numeric.jit import jit_pays

_ALIGNED = 64  # bytes


class _Place(NamedTuple):
    """Where a tensor lies, and as what it is counted while it is read: a weight."""

    path: str
    begin: int
    size: int
    module: Module
    suffix: str
    counted: Matrix | Words | None


def read(modules: Sequence[Module], stacks: Sequence[Stack]) -> None:
    """Hand the modules the bytes of their small tensors, and the statistics of their weights.

    Stacks of these modules get theirs too, where those of the members can lie one behind another.
    What cannot be read so is left to the modules, which say what is wrong.
    """
    places = sorted(_places(modules), key=attrgetter("path", "begin"))
    if not CAN_READ or not jit_pays(sum(place.size for place in places)):
        return
    stack_of = {member.name: stack for stack in stacks for member in stack.members}
    for path, found in groupby(places, key=attrgetter("path")):
        own = list(found)
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            _count(handle, own, Matrix, lot_stats)
            _count(handle, own, Words, word_lot)
            _gather(handle, [place for place in own if not place.counted], stack_of)
        finally:
            os.close(handle)


def _places(modules: Sequence[Module]) -> Iterator[_Place]:
    for module in modules:
        weight = module.counted
        for suffix, (path, begin, end) in module.places.items():
            counted = weight if suffix == "weight" else None
            if 0 <= begin < end and (counted or end - begin < MAP_FROM):
                yield _Place(path, begin, end - begin, module, suffix, counted)


def _count(handle: int, places: Sequence[_Place], kind: type, count: Callable[..., Any]) -> None:
    own = [place for place in places if isinstance(place.counted, kind)]
    found = count(handle, [place.counted for place in own]) if own else None
    for place, stats in zip(own, found or (), strict=False):
        place.module.know(stats)


def _gather(handle: int, places: Sequence[_Place], stack_of: Mapping[str, Stack]) -> None:
    """Read tensors into one array, those of the members of a stack one behind another.

    Args: stack_of: by name of a member. A stack whose members lie in several files, or differ in
    size or order, gets nothing: it puts together itself what they have.
    """
    from slimcheck.values.kernels import gather

    runs: dict[tuple[str, str], list[int]] = {}  # of a tensor of a stack, or of a module
    for i, place in enumerate(places):
        stack = stack_of.get(place.module.name)
        runs.setdefault(((stack or place.module).name, place.suffix), []).append(i)
    begins, to = [0] * len(places), 0
    for run in runs.values():
        to = -(-to // _ALIGNED) * _ALIGNED
        for i in run:
            begins[i] = to
            to += places[i].size
    raw = np.empty(to, np.uint8)
    table = [(place.begin, place.size, at) for place, at in zip(places, begins, strict=True)]
    read = gather(handle, np.array(table, np.int64).reshape(-1, 3), raw)
    raw.flags.writeable = False
    for place, (_, size, at) in zip(places[:read], table, strict=False):
        place.module.hold(place.suffix, raw[at : at + size])
    for (name, suffix), run in runs.items() if read == len(places) else ():
        stack = stack_of.get(name)
        alike = len({places[i].size for i in run}) == 1
        if stack and alike and stack.members == [places[i].module for i in run]:
            stack.hold(suffix, raw[begins[run[0]] : begins[run[-1]] + places[run[-1]].size])

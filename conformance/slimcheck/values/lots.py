"""Modules that lie together are read in few calls, and their integers counted as they are read.

Of small modules the calls would take longer than the bytes; in one long call without the
interpreter lock, another thread judges what was read before.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from slimcheck.values.blocks import CAN_READ
from slimcheck.values.integers import Matrix, lot_stats
from slimcheck.values.modules import Module
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


def read(modules: Sequence[Module]) -> None:
    """Hand the modules the bytes of their small tensors, and the statistics of their weights.

    What cannot be read so is left to the modules, which say what is wrong.
    """
    places = sorted(_places(modules), key=lambda place: place[:2])
    if not CAN_READ or not jit_pays(sum(place.size for place in places)):
        return
    for path, found in groupby(places, key=attrgetter("path")):
        own = list(found)
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            _count(handle, own, Matrix, lot_stats)
            _count(handle, own, Words, word_lot)
            _gather(handle, [place for place in own if not place.counted])
        finally:
            os.close(handle)


def _places(modules: Sequence[Module]) -> Iterator[_Place]:
    for module in modules:
        weight = module.matrix or module.read_as_words
        for suffix, (path, begin, end) in module.places.items():
            counted = weight if suffix == "weight" else None
            if 0 <= begin < end and (counted or end - begin < MAP_FROM):
                yield _Place(path, begin, end - begin, module, suffix, counted)


def _count(handle: int, places: Sequence[_Place], kind: type, count: Callable[..., Any]) -> None:
    own = [place for place in places if isinstance(place.counted, kind)]
    found = count(handle, [place.counted for place in own]) if own else None
    for place, stats in zip(own, found or (), strict=False):
        place.module.know(stats)


def _gather(handle: int, places: Sequence[_Place]) -> None:
    from slimcheck.values.kernels import gather

    table, to = [], 0
    for place in places:
        table.append((place.begin, place.size, to))
        to += -(-place.size // _ALIGNED) * _ALIGNED
    raw = np.empty(to, np.uint8)
    read = gather(handle, np.array(table, np.int64).reshape(-1, 3), raw)
    raw.flags.writeable = False
    for place, (_, size, at) in zip(places[:read], table, strict=False):
        place.module.hold(place.suffix, raw[at : at + size])

"""Modules that lie together are read in few calls, and their integers counted in one.

Of small modules the calls would take longer than the bytes; in one long call without the
interpreter lock, another thread judges what was read before.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from slimcheck.modules import MOST_MAPPED, Module
from slimcheck.scan_stats import Matrix, lot_stats
from slimspec.checkpoint.stored import stored_bytes

_GAP = 64 << 10  # bytes between tensors that are read along
_LARGEST = MOST_MAPPED


class _Place(NamedTuple):
    """Where a tensor lies."""

    path: str
    begin: int
    end: int
    module: Module
    suffix: str


def read(modules: Sequence[Module]) -> None:
    """Hand the modules the bytes of their tensors, and the statistics of their integers.

    What cannot be read so is left to the modules, which say what is wrong.
    """
    places = sorted(_places(modules), key=lambda place: place[:3])
    for extent in _extents(places):
        path, begin = extent[0].path, extent[0].begin
        try:
            raw = stored_bytes(path, begin, extent[-1].end - begin)
        except (OSError, ValueError):
            continue
        matrices: list[tuple[Module, Matrix]] = []
        for place in extent:
            at = place.begin - begin
            place.module.hold(place.suffix, raw[at : place.end - begin])
            matrix = place.module.matrix(at) if place.suffix == "weight" else None
            if matrix is not None and matrix.nbytes == place.end - place.begin:
                matrices.append((place.module, matrix))
        if matrices:
            found = lot_stats(raw, [matrix for _, matrix in matrices])
            for (module, _), stats in zip(matrices, found, strict=True):
                module.know(stats)


def _places(modules: Sequence[Module]) -> Iterator[_Place]:
    for module in modules:
        for suffix, (path, begin, end) in module.places.items():
            if 0 <= begin < end <= begin + _LARGEST:
                yield _Place(path, begin, end, module, suffix)


def _extents(places: Sequence[_Place]) -> Iterator[list[_Place]]:
    """Runs of places of one file without large gaps."""
    run: list[_Place] = list(places[:1])
    for before, place in pairwise(places):
        near = place.path == before.path and 0 <= place.begin - before.end <= _GAP
        if not near or place.end - run[0].begin > _LARGEST:
            yield run
            run = []
        run.append(place)
    if run:
        yield run

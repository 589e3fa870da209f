"""A whole weight by compiled kernels, tiles spread over threads: the same bytes as `definition`.

Source: facts/sparse_codec.md 1, 3.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse import decode_kernels, decode_tables, encode_kernels
from slimspec.sparse.codebook import LOW, Mode
from slimspec.sparse.container import Container, StoredTile
from slimspec.sparse.definition import EncodeJob, empty_padded
from slimspec.sparse.kernels import count_tile, frozen, panel
from slimspec.sparse.plan import Tile

Int8 = NDArray[np.int8]
Bytes = NDArray[np.uint8]
Job = TypeVar("Job")
Result = TypeVar("Result")

TILES_PER_TURN = 16  # at least so many tiles share scratch space and the tables in it
TURNS_PER_THREAD = 4  # so that a late thread is not waited for


def histograms(
    weight: Int8, tiles: Sequence[tuple[Tile, int]], threads: int | None
) -> NDArray[np.int64]:
    """Return int64 [tiles, 256]: how often each byte stands in each (tile, width)."""
    words = panel(weight)

    def count(turn: Sequence[tuple[Tile, int]]) -> list[Any]:
        counts = []
        for tile, width in turn:
            lanes = np.zeros((4, 256), np.int64)
            count_tile(words, tile.k0, tile.kf, tile.first(width), width, lanes)
            counts.append(lanes.sum(axis=0))
        return counts

    return np.stack(_spread(count, tiles, threads))


def encode(
    weight: Int8, jobs: Sequence[EncodeJob], mode: Mode, threads: int | None
) -> list[tuple[Bytes, bool]]:
    """Return (stored bytes, is compressed) of each job."""
    words = panel(weight)
    dictionaries = {job.dictionary for job in jobs}
    tables = {dictionary: encode_kernels.Tables(dictionary, mode) for dictionary in dictionaries}

    def work(turn: Sequence[EncodeJob]) -> list[tuple[Bytes, bool]]:
        scratch = encode_kernels.Scratch()
        return [
            encode_kernels.encode(words, job.tile, job.width, tables[job.dictionary], scratch)
            for job in turn
        ]

    return _spread(work, jobs, threads)


def decode(
    container: Container, tiles: Sequence[StoredTile], mode: Mode | None, threads: int | None
) -> tuple[Int8, list[int]]:
    """Return the padded weight and the numbers of the tiles that the kernels refused."""
    padded = empty_padded(container.plan)
    target = padded.view(np.uint64)
    weight = frozen(container.weight.view(np.uint64))
    book = decode_tables.Book(mode or LOW)  # without a mode no tile is compressed

    def work(turn: Sequence[StoredTile]) -> list[int]:
        return decode_kernels.decode(weight, turn, book, target)

    return padded, _spread(work, tiles, threads)


def _spread(
    work: Callable[[Sequence[Job]], list[Result]], jobs: Sequence[Job], threads: int | None
) -> list[Result]:
    """Run `work` on turns of the jobs, in threads where there are several; keep their order."""
    most = threads or cpu_count() or 1
    size = max(TILES_PER_TURN, -(-len(jobs) // (TURNS_PER_THREAD * most)))
    turns = [jobs[at : at + size] for at in range(0, len(jobs), size)]
    workers = min(len(turns), most)
    if workers == 1:
        return [result for turn in turns for result in work(turn)]
    with ThreadPoolExecutor(workers) as pool:
        return [result for results in pool.map(work, turns) for result in results]

"""`compress` and `decompress`: a whole weight as tiles.

Decoding is normative. Encoding is "a conforming encoder": the scope of the dictionary, the order of
equal counts and the form of the remainder along n are not public, so they are options.

Source: facts/sparse_codec.md 1, 2, 3, 9.
"""

from dataclasses import dataclass
from importlib import import_module
from sys import byteorder
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse import definition
from slimspec.sparse.codebook import ModeName, mode_named
from slimspec.sparse.container import open_container
from slimspec.sparse.definition import EncodeJob
from slimspec.sparse.dictionary import TieOrder, ranking
from slimspec.sparse.errors import fail
from slimspec.sparse.index import build_index
from slimspec.sparse.nz import require_matrix
from slimspec.sparse.plan import TILING, Remainder, TilePlan, stored_width

Scope = Literal["weight", "column", "tile"]
Backend = Literal["kernels", "definition"]
SCOPES = ("weight", "column", "tile")
Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Compressed:
    """The tensors of a compressed linear: weight int8 [x], index int8 [y], info int64 [5]."""

    weight: Int8
    index: Int8
    info: Int64


def compress(
    weight: NDArray[np.int8] | NDArray[np.float16],
    mode: ModeName = "low",
    *,
    dictionary_scope: Scope = "weight",
    tie_order: TieOrder = "libstdcxx",
    n_remainder: Remainder = "overlap",
    threads: int | None = None,
    by: Backend = "kernels",
) -> Compressed:
    """Compress a weight that is already sliced for tensor parallelism.

    Args:
        weight: int8 [n, k]; in mode "high" also float16 [n, k], taken as bytes [n, 2k].
        mode: "low" (W8A8SC) or "high" (W16A16SC).
        dictionary_scope: whose bytes a dictionary counts: the whole weight's, those of the tiles
            of one n-tile ("column"), or one tile's.
        tie_order: order of equal counts in the dictionary.
        n_remainder: how the last n-tile of a weight of more than 128 rows is stored.
        threads: worker threads, by default one per core; the bytes do not depend on it.
        by: compiled kernels or the readable definition; the bytes are the same.

    Returns:
        The three tensors; `info` is (8, 8, k, n, 1) with k in bytes.

    Raises:
        ValueError: dtype, shape or an option is wrong.

    Source: facts/sparse_codec.md 1-5, 9.
    """
    book = mode_named(mode)
    data: NDArray[Any] = as_bytes(weight) if book.name == "high" else np.asarray(weight)
    n, k = require_matrix(data)
    plan = TilePlan(n, k)
    engine = backend(by)
    tiles = [(tile, stored_width(tile, n_remainder)) for tile in plan.tiles()]
    counts = engine.histograms(data, tiles, threads)
    owners = _owners(dictionary_scope, len(tiles), plan.k_index)
    dictionaries = {
        owner: ranking(counts[owners == owner].sum(axis=0), tie_order)[: book.dictionary_size]
        for owner in np.unique(owners).tolist()
    }
    jobs = [
        EncodeJob(tile, width, dictionaries[owner])
        for (tile, width), owner in zip(tiles, owners.tolist(), strict=True)
    ]
    stored = engine.encode(data, jobs, book, threads)
    index = build_index((part.size, compressed) for part, compressed in stored)
    info = np.array([TILING, TILING, k, n, 1], np.int64)
    return Compressed(np.concatenate([part for part, _ in stored]).view(np.int8), index, info)


def decompress(
    weight: Int8,
    index: Int8,
    info: Int64,
    mode: ModeName | None = None,
    *,
    threads: int | None = None,
    by: Backend = "kernels",
) -> Int8:
    """Return the weight of its three tensors, or refuse them.

    Args:
        weight: int8 [x], the stored tiles.
        index: int8 [y], one entry per tile.
        info: int64 [5], (8, 8, k, n, 1).
        mode: the mode all compressed tiles must have; None takes it from the first one.
        threads: worker threads, by default one per core; the result does not depend on it.
        by: compiled kernels or the readable definition; the result is the same.

    Returns:
        int8 [n, k], k in bytes; `as_float16` gives the W16A16S weight.

    Raises:
        StreamError: any defect of levels 0 to 3, with tile, engine, packet and bit.

    Source: facts/sparse_codec.md 1-7, 10.
    """
    container = open_container(weight, index, info)
    book = mode_named(mode) if mode is not None else container.mode()
    tiles = [container.resolve(tile) for tile in container.plan.tiles()]
    padded, refused = backend(by).decode(container, tiles, book, threads)
    for number in refused:  # the definition is normative: it names what the kernels refused
        data = definition.decode_one(container, tiles[number], book)
        definition.place(padded, tiles[number], data)
    check_padding(padded, container.plan)
    return np.ascontiguousarray(padded[: container.plan.n, : container.plan.k])


def as_bytes(weight: NDArray[Any]) -> NDArray[Any]:
    """Return float16 [n, k] as int8 [n, 2k] (little endian); anything else passes unchanged."""
    weight = np.asarray(weight)
    if weight.dtype != np.float16 or weight.ndim != 2:
        return weight
    return np.ascontiguousarray(weight).astype("<f2", copy=False).view(np.int8)


def as_float16(weight: Int8) -> NDArray[np.float16]:
    """Return int8 [n, 2k] as float16 [n, k].

    Raises:
        ValueError: not an int8 matrix of even width.
    """
    n, k = require_matrix(weight)
    if k % 2:
        raise ValueError(f"weight has {k} byte columns, expected an even number for float16")
    return np.ascontiguousarray(weight).view("<f2").astype(np.float16, copy=False).reshape(n, -1)


def check_padding(padded: Int8, plan: TilePlan) -> None:
    """Refuse a weight whose padding is not zero.

    Args:
        padded: int8 [16·n1, 32·k1].
        plan: the tile plan of (n, k).

    Raises:
        StreamError: code "padding", with the tile.
    """
    rows, columns = padded[plan.n :], padded[:, plan.k :]
    if rows.any() or columns.any():
        outside = padded != 0
        outside[: plan.n, : plan.k] = False
        row, column = divmod(int(outside.argmax()), padded.shape[1])
        tile = row // (16 * TILING) * plan.k_index + column // (32 * TILING)
        found = f"{int(padded[row, column])} at row {row}, byte {column}"
        raise fail("padding", found, "0", tile=tile)


def _owners(scope: Scope, tiles: int, k_index: int) -> Int64:
    """Return for each tile the number of the dictionary it uses."""
    if scope not in SCOPES:
        raise ValueError(f"dictionary_scope is {scope!r}, expected one of {', '.join(SCOPES)}")
    numbers = np.arange(tiles, dtype=np.int64)
    return {"weight": numbers * 0, "column": numbers // k_index, "tile": numbers}[scope]


def backend(name: Backend) -> ModuleType:
    """Return the module with `histograms`, `encode` and `decode`; numba loads only when used."""
    if name not in ("kernels", "definition"):
        raise ValueError(f"by is {name!r}, expected kernels or definition")
    if name == "definition" or byteorder != "little":  # kernels read words in the stream's order
        return definition
    return import_module("slimspec.sparse.fast")

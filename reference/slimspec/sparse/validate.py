"""What is wrong with a compressed weight, level by level, as a list.

    0 shapes   1 index   2 engine headers   3 full decode   4 content

A level is judged only where the ones below it hold; per tile the first defect of a level is named.

Source: facts/sparse_codec.md 10.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse import definition
from slimspec.sparse.codebook import MODES, Mode, ModeName
from slimspec.sparse.codec import as_bytes, backend, check_padding
from slimspec.sparse.container import (
    Container,
    StoredTile,
    container_defects,
    open_container,
    shape_defects,
)
from slimspec.sparse.errors import StreamDefect, StreamError
from slimspec.sparse.plan import TILING, TilePlan
from slimspec.sparse.tile import BLOCK, CHUNK, check_headers, deal, undeal

AnyArray = NDArray[np.generic]
Int8 = NDArray[np.int8]


def validate(
    weight: AnyArray,
    index: AnyArray,
    info: AnyArray,
    level: int = 3,
    reference: AnyArray | None = None,
    *,
    mode: ModeName | None = None,
    limit: int = 100,
) -> list[StreamDefect]:
    """Return the defects of a compressed weight up to a level.

    Args:
        weight: int8 [x], the stored tiles.
        index: int8 [y], one entry per tile.
        info: int64 [5], (8, 8, k, n, 1).
        level: 0 shapes, 1 index, 2 headers, 3 full decode, 4 content.
        reference: int8 or float16 [n, k] the weight must decode to (level 4).
        mode: the mode the tiles must have, by default that of the first compressed tile.
        limit: stop after so many defects; each costs a decode by the readable definition.

    Returns:
        Defects in the order of levels and tiles; `defect.warning` marks what still decodes.

    Raises:
        ValueError: level is not 0 to 4.

    Source: facts/sparse_codec.md 10.
    """
    if level not in range(5):
        raise ValueError(f"level is {level}, expected 0 to 4")
    weight, index, info = np.asarray(weight), np.asarray(index), np.asarray(info)
    layout = shape_defects if level == 0 else container_defects
    found = list(islice(layout(weight, index, info), limit))
    if level < 2 or any(not defect.warning for defect in found):
        return found
    deeper = _stream_defects(open_container(weight, index, info), level, reference, mode)
    return found + list(islice(deeper, limit - len(found)))


def _stream_defects(
    container: Container, level: int, reference: AnyArray | None, mode: ModeName | None
) -> Iterator[StreamDefect]:
    try:
        book = MODES[mode] if mode is not None else container.mode()
    except StreamError as error:
        yield error.defect
        return
    tiles, broken = [], False
    for result in _headers(container, book):
        if isinstance(result, StreamDefect):
            broken = True
            yield result
        else:
            tiles.append(result)
    if broken or level < 3:
        return
    padded, refused = backend("kernels").decode(container, tiles, book, None)
    for number in refused:  # the definition is normative: it names what the kernels refused
        try:
            data = definition.decode_one(container, tiles[number], book)
            definition.place(padded, tiles[number], data)
        except StreamError as error:
            broken = True
            yield error.defect
    if broken:
        return
    try:
        check_padding(padded, container.plan)
    except StreamError as error:
        yield error.defect
        return
    if level == 4:
        yield from _content_defects(container, tiles, book, padded, reference)


def _headers(container: Container, book: Mode | None) -> Iterator[StreamDefect | StoredTile]:
    """Yield each tile with its stored width, or its level 2 defect."""
    for tile in container.plan.tiles():
        try:
            stored = container.resolve(tile)
            if stored.entry.compressed and book is not None:
                check_headers(deal(container.stored(tile), CHUNK), stored.size, book)
        except StreamError as error:
            yield error.at(tile=tile.number).defect
        else:
            yield stored


def _content_defects(
    container: Container,
    tiles: list[StoredTile],
    book: Mode | None,
    padded: Int8,
    reference: AnyArray | None,
) -> Iterator[StreamDefect]:
    plan = container.plan
    if reference is not None:
        yield from _reference_defects(padded[: plan.n, : plan.k], as_bytes(reference), plan)
    for stored in _not_reproduced(container, tiles, book, padded):
        data = definition.decode_one(container, stored, book)
        repeated = definition.tile_bytes(padded, stored.tile, stored.width) == data
        code, found, expected = (
            ("not-canonical", "other code words", "those of the encoder")
            if repeated
            else ("overlap-differs", "other bytes", "a copy")
        )
        yield StreamDefect(code, found, expected, tile=stored.tile.number)
    yield from _run_character_defects(container, tiles, book, padded)


def _not_reproduced(
    container: Container, tiles: list[StoredTile], book: Mode | None, padded: Int8
) -> Iterator[StoredTile]:
    """Yield the tiles that differ from encoding the decoded weight with their own dictionary."""
    compressed = [stored for stored in tiles if stored.entry.compressed and book is not None]
    jobs = [
        definition.EncodeJob(stored.tile, stored.width, _dictionary(container, stored, book))
        for stored in compressed
        if book is not None
    ]
    again = backend("kernels").encode(padded, jobs, book, None) if jobs else []
    for stored, (part, _) in zip(compressed, again, strict=True):
        if part.tobytes() != container.stored(stored.tile):
            yield stored
    for stored in tiles:
        if not stored.entry.compressed and stored.width != stored.tile.valid:
            data = definition.tile_bytes(padded, stored.tile, stored.width)
            if undeal(deal(data, BLOCK), CHUNK) != container.stored(stored.tile):
                yield stored


def _run_character_defects(
    container: Container, tiles: list[StoredTile], book: Mode | None, padded: Int8
) -> Iterator[StreamDefect]:
    """Yield a dictionary whose entry 0 is not a most frequent byte of what it may have counted.

    The scope of a dictionary is not stored: it is all tiles that carry it and, where the weight has
    one dictionary, perhaps the raw tiles too. Several dictionaries beside raw tiles tell nothing.
    """
    coded = [stored for stored in tiles if stored.entry.compressed]
    groups: dict[bytes, list[StoredTile]] = {}
    for stored in coded:
        if book is not None:
            groups.setdefault(_dictionary(container, stored, book), []).append(stored)
    if len(groups) > 1 and len(coded) < len(tiles):
        return
    for dictionary, group in groups.items():
        scopes = [group, tiles] if len(groups) == 1 else [group]
        if not any(_leads(dictionary[0], scope, padded) for scope in scopes):
            found, first = f"byte {dictionary[0]:#04x}", group[0].tile.number
            yield StreamDefect("run-character", found, "a most frequent byte", tile=first)


def _leads(value: int, tiles: list[StoredTile], padded: Int8) -> bool:
    pairs = [(stored.tile, stored.width) for stored in tiles]
    counts = backend("kernels").histograms(padded, pairs, None).sum(axis=0)
    return bool(counts[value] == counts.max())


def _dictionary(container: Container, stored: StoredTile, book: Mode) -> bytes:
    head = deal(container.stored(stored.tile), CHUNK)[0]
    return bytes(head[at] for at in book.dictionary_bytes)


def _reference_defects(decoded: Int8, reference: Int8, plan: TilePlan) -> Iterator[StreamDefect]:
    if reference.dtype != np.int8 or reference.shape != decoded.shape:
        found = f"{reference.dtype} {list(reference.shape)}"
        yield StreamDefect("reference-shape", found, f"int8 {list(decoded.shape)} in bytes")
        return
    different = decoded != reference
    if different.any():
        row, column = np.unravel_index(int(different.argmax()), different.shape)
        tile = int(row) // (16 * TILING) * plan.k_index + int(column) // (32 * TILING)
        found = f"{int(decoded[row, column])} at row {row}, byte {column}"
        expected = f"{int(reference[row, column])}; {int(different.sum())} bytes differ"
        yield StreamDefect("differs", found, expected, tile=tile)

"""Write `part{r}-of-{N}` directories, all ranks at once, into one new directory.

Everything or nothing is written, as `checkpoint.partial` says. Tensors are written in pieces, so
that memory stays bounded.

Source: formats.md 1.1 (SC), 1.4 (quantize, torch_dtype), 1.5; DIR-014..017.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.companions import copy_companions
from slimspec.checkpoint.dtypes import tag_of
from slimspec.checkpoint.errors import clip
from slimspec.checkpoint.partial import PartialDirectory
from slimspec.checkpoint.shard import ShardWriter
from slimspec.layout import profiles

PIECE_BYTES = 8 << 20
NO_VERSION = (None, "0.0.0")  # what stands for a description without a version
_FILE_MODE, _JSON_MODE, _DIRECTORY_MODE = 0o400, 0o600, 0o750


def description_file(quant_type: str, version: object) -> str:
    """Return the name of a part's description: typed where the checkpoint has no version."""
    if version in NO_VERSION:
        return f"quant_model_description_{quant_type.lower()}.json"
    return profiles.profile("SC").description_file(quant_type)


def pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield consecutive row ranges of at most about `PIECE_BYTES`; one piece for a vector."""
    if array.ndim < 2 or array.nbytes <= PIECE_BYTES:
        yield array
        return
    rows = max(1, PIECE_BYTES * array.shape[0] // array.nbytes)
    for start in range(0, array.shape[0], rows):
        yield array[start : start + rows]


class PartsWriter(PartialDirectory):
    """Context manager that writes the parts of one checkpoint; see the module."""

    def __init__(
        self,
        out: str | Path,
        ranks: int,
        quant_type: str,
        metadata: Mapping[str, Any],
        *,
        overwrite: bool = False,
    ) -> None:
        """Prepare to write.

        Args:
            out: the directory to create.
            ranks: number of parts.
            quant_type: "W8A8SC" or "W16A16SC".
            metadata: further metadata keys of the descriptions, `version` among them.
            overwrite: replace an existing checkpoint at `out`.

        Raises:
            CheckpointError: `out` exists and may not be replaced, or its parent is missing.
        """
        super().__init__(out, overwrite)
        self._quant_type = quant_type
        self._metadata = dict(metadata)
        self._labels: list[dict[str, Any]] = [{} for _ in range(ranks)]
        self._shards: list[ShardWriter] = []
        self._names: list[set[str]] = [set() for _ in range(ranks)]

    def _start(self) -> None:
        for rank in range(len(self._labels)):
            self._part(rank).mkdir()
            self._shards.append(ShardWriter(self._part(rank) / ".spool"))

    def write(self, rank: int, name: str, array: NDArray[Any], label: str | None) -> None:
        """Write one tensor of a rank; `label` None leaves it out of the description.

        Raises:
            CheckpointError: the name is taken, or the disk refuses.
        """
        self.write_pieces(rank, name, array.dtype, array.shape, pieces(array), label)

    def write_pieces(
        self,
        rank: int,
        name: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        parts: Iterator[NDArray[Any]],
        label: str | None,
    ) -> None:
        """Write one tensor of a rank from row ranges of it.

        Raises:
            CheckpointError: the name is taken, the dtype has no tag, or the disk refuses.
        """
        tag = tag_of(dtype)
        if tag is None or name in self._names[rank]:
            problem = f"dtype {dtype} has no tag" if tag is None else "is written twice"
            raise CheckpointError(f"tensor {clip(name, 120)!r}: {problem}")
        little = dtype.newbyteorder("<")
        flat = (
            np.ascontiguousarray(part.astype(little, copy=False)).reshape(-1).view(np.uint8).data
            for part in parts
        )
        try:
            self._shards[rank].append(name, tag, shape, flat)
        except OSError as error:
            raise self._refused(error) from None
        self._names[rank].add(name)
        if label is not None:
            self._labels[rank][name] = label

    def describe(self, rank: int, key: str, value: Any) -> None:
        """Add a description entry that names no tensor (`*.outdim`)."""
        self._labels[rank][key] = value

    def copy_companions(self, source: Path) -> None:
        """Copy config.json and the tokenizer of the sparse checkpoint into the root.

        Raises:
            CheckpointError: a file cannot be copied, or `source` lies in the output directory.
        """
        target, origin = self.path.resolve(), source.resolve()
        if origin == target or target in origin.parents:
            raise CheckpointError(f"{self.path}: the output would replace its source {source}")
        changes = {"torch_dtype": "float16", "dtype": None, "quantize": self._quant_type.lower()}
        copy_companions(source, self._root(), changes=changes)

    def _part(self, rank: int) -> Path:
        return self._root() / f"part{rank}-of-{len(self._labels)}"

    def _finish(self) -> None:
        weights = profiles.profile("SC").weights_file(self._quant_type)
        described = description_file(self._quant_type, self._metadata.get("version"))
        for rank, shard in enumerate(self._shards):
            part = self._part(rank)
            shard.close(part / weights)
            members = {"model_quant_type": self._quant_type, **self._metadata, **self._labels[rank]}
            text = json.dumps(members, indent=2, ensure_ascii=False)
            (part / described).write_text(text, encoding="utf-8")
            (part / weights).chmod(_FILE_MODE)
            (part / described).chmod(_JSON_MODE)
            part.chmod(_DIRECTORY_MODE)
        for path in self._root().iterdir():
            path.chmod(_DIRECTORY_MODE if path.is_dir() else _JSON_MODE)
        self._root().chmod(_DIRECTORY_MODE)

    def _abandon(self) -> None:
        for shard in self._shards:
            shard.discard()
        self._shards = []

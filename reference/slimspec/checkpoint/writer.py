"""Stream a checkpoint into a new directory, named and ordered as the producer would.

Everything or nothing is written, as `partial` says.

Source: formats.md 1.1 (names), 1.2 (permissions), 1.3 (index, shard size), 2.1 (description).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import companions
from .description import metadata_keys
from .dtypes import BITS, tag_of
from .errors import CheckpointError, clip
from .index import SUFFIX
from .naming import (
    DIRECTORY_MODE,
    FLOAT,
    INDEX_MODE,
    STYLES,
    description_name,
    index_name,
    order_description,
    weights_names,
)
from .partial import PartialDirectory
from .shard import ShardWriter, nbytes_of

GIB = 1 << 30
OPTIONAL = "optional"


class CheckpointWriter(PartialDirectory):
    """Context manager that writes one checkpoint directory; memory stays bounded.

    `write` puts each tensor on disk at once. A shard is closed when the next tensor would bring
    it to `part_file_size` or more, as the producer does.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        profile: str = "A1",
        model_quant_type: str | None = None,
        group_size: int = 0,
        part_file_size: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Prepare to write.

        Args:
            out: the directory to create.
            profile: "A1", "A0", "L0", "MF", or "FLOAT" (a plain float model, no description).
            model_quant_type: goes into the description and, in V0 profiles, the file names; may
                be set later as an attribute.
            group_size: 0 = no groups.
            part_file_size: bytes per shard; None = one file and no index.
            metadata: further metadata keys (`kv_cache_type`, ...) of the description.
            overwrite: replace an existing checkpoint at `out`.

        Raises:
            CheckpointError: `out` exists and may not be replaced, or its parent is missing.
            ValueError: an unknown profile or a part size below 1.
        """
        if profile not in STYLES:
            raise ValueError(f"profile {profile!r}: expected one of {', '.join(STYLES)}")
        if part_file_size is not None and part_file_size < 1:
            raise ValueError(f"part_file_size {part_file_size}: expected at least 1")
        super().__init__(out, overwrite)
        self.profile = profile
        self.model_quant_type = model_quant_type
        self.group_size = group_size
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._limit = part_file_size
        self._labels: dict[str, Any] = {}
        self._shard_of: dict[str, int] = {}  # tensor -> shard number, in write order
        self._shards: list[Path] = []
        self._open_shard: ShardWriter | None = None
        self._total_size = 0

    def write(self, name: str, array: NDArray[Any], label: str | None) -> None:
        """Write one tensor.

        Args:
            name: full tensor name.
            array: any shape and a dtype that safetensors knows (ml_dtypes included).
            label: its entry in the description; None = no entry.

        Raises:
            CheckpointError: the name is unusable or taken, the dtype has no tag, or the disk
                refuses.
        """
        tag = tag_of(array.dtype)
        if tag is None:
            raise CheckpointError(f"tensor '{clip(name, 120)}': dtype {array.dtype} has no tag")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        flat = np.ascontiguousarray(little).reshape(-1).view(np.uint8)
        self.write_chunks(name, tag, array.shape, (flat.data,), label)

    def write_chunks(
        self,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        chunks: Iterable[memoryview | bytes],
        label: str | None,
    ) -> None:
        """Write one tensor from pieces of its bytes, row-major and little-endian.

        Raises:
            CheckpointError: as `write`, or the pieces do not add up to dtype and shape.
        """
        self._check_name(name)
        if dtype not in BITS:
            raise CheckpointError(f"tensor '{clip(name, 120)}': unknown dtype {dtype!r}")
        size = nbytes_of(dtype, shape)
        try:
            shard = self._shard_for(size)
            shard.append(name, dtype, shape, (memoryview(chunk) for chunk in chunks))
        except OSError as error:
            raise self._refused(error) from None
        self._shard_of[name] = len(self._shards) + 1
        self._total_size += size
        if label is not None:
            self._labels[name] = label

    def describe(self, key: str, value: Any) -> None:
        """Add a description entry that names no tensor (`*.quant_type`, `*.outdim`)."""
        self._labels[key] = value

    def write_optional(self, file: str, tensors: Mapping[str, NDArray[Any]]) -> str:
        """Write tensors into `optional/FILE`, beside the weights; return the path in the directory.

        Raises:
            CheckpointError: the disk refuses.
        """
        folder = self._root() / OPTIONAL
        try:
            folder.mkdir(exist_ok=True)
            shard = ShardWriter(self._root() / ".spool-optional")
            for name, array in tensors.items():
                flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                shard.append(name, str(tag_of(array.dtype)), array.shape, (flat.data,))
            shard.close(folder / file)
        except OSError as error:
            raise self._refused(error) from None
        return f"{OPTIONAL}/{file}"

    def copy_companions(
        self, source: str | Path, *, changes: Mapping[str, Any] | None = None
    ) -> None:
        """Copy config.json, tokenizer and code of the float model at `source`.

        Raises:
            CheckpointError: a file cannot be copied, or one of the two directories lies in the
                other.
        """
        source = Path(source)
        target, origin = self.path.resolve(), source.resolve()
        if origin == target or target in origin.parents:
            raise CheckpointError(f"{self.path}: the output would replace its source {source}")
        if origin in target.parents:
            raise CheckpointError(f"{self.path}: the output would lie inside its source {source}")
        companions.copy_companions(source, self._root(), changes=changes)

    def _check_name(self, name: str) -> None:
        if not name or not name.isprintable() or name == "__metadata__":
            raise CheckpointError(f"tensor name '{clip(name, 120)}': expected printable text")
        if name in self._shard_of:
            raise CheckpointError(f"tensor '{clip(name, 120)}' is written twice")
        if name in metadata_keys() and self.profile != FLOAT:
            raise CheckpointError(f"tensor name {name!r} is a metadata key of the description")

    def _shard_for(self, size: int) -> ShardWriter:
        shard = self._open_shard
        full = shard is not None and self._limit is not None and shard.nbytes + size >= self._limit
        if full and shard is not None and shard.records:
            self._close_shard()
        return self._open_shard or self._new_shard()

    def _new_shard(self) -> ShardWriter:
        # transformers refuses a float file without this mark; the producer writes none
        mark = {"format": "pt"} if self.profile == FLOAT else None
        spool = self._root() / f".spool-{len(self._shards) + 1}"
        self._open_shard = ShardWriter(spool, mark)
        return self._open_shard

    def _close_shard(self) -> None:
        if self._open_shard is not None:
            path = self._root() / f".shard-{len(self._shards) + 1}"
            self._open_shard.close(path)
            self._shards.append(path)
            self._open_shard = None

    def _finish(self) -> None:
        label = self.model_quant_type or ""
        if self.profile != FLOAT and not label and not STYLES[self.profile].untyped:
            raise CheckpointError(f"{self.path}: profile {self.profile} needs model_quant_type")
        root = self._root()
        if not self._shards and self._open_shard is None:
            self._new_shard()  # a checkpoint without tensors still has its file
        self._close_shard()
        shards = None if self._limit is None else len(self._shards)
        names = weights_names(self.profile, label, shards)
        for path, name in zip(self._shards, names, strict=True):
            path.rename(root / name)
        if shards is not None:
            weight_map = {tensor: names[number - 1] for tensor, number in self._shard_of.items()}
            index = {"metadata": {"total_size": self._total_size}, "weight_map": weight_map}
            _dump(index, root / index_name(self.profile, label), 2)
        if self.profile != FLOAT:
            description = order_description(
                self.profile, label or None, self.group_size, self._labels, self.metadata
            )
            path = root / description_name(self.profile, label)
            _dump(description, path, STYLES[self.profile].indent)
        self._set_modes(root, frozenset(names))

    def _set_modes(self, root: Path, weights: frozenset[str]) -> None:
        style = STYLES[self.profile]
        for path in root.iterdir():
            if path.is_dir():
                path.chmod(DIRECTORY_MODE)
                for inner in path.iterdir():
                    inner.chmod(style.weights_mode)
                continue
            mode = style.weights_mode if path.name in weights else style.json_mode
            path.chmod(INDEX_MODE if path.name.endswith(SUFFIX) else mode)
        root.chmod(DIRECTORY_MODE)

    def _abandon(self) -> None:
        if self._open_shard is not None:
            self._open_shard.discard()
            self._open_shard = None


def _dump(value: Any, path: Path, indent: int) -> None:
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False), encoding="utf-8")

"""Open a checkpoint directory: headers and JSON now, tensor bytes when asked.

Source: formats.md sections 0, 1, 5.0; performance.md "Reading checkpoints".
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.layout import profiles

from .config import Config, read_config
from .description import Description, read_description
from .dtypes import numpy_dtype
from .errors import CheckpointError, Defect, clip, defect
from .family import recognise_kind
from .header import Header, read_header
from .index import SUFFIX, SafetensorsIndex, read_index
from .jsonfile import JsonFile, read_json
from .listing import holds_weights, list_directory
from .profile import (
    PART,
    PLAIN_DESCRIPTION,
    RANK_DIRECTORY,
    SHARDED_METADATA,
    Detected,
    detect,
)
from .stored import stored_bytes
from .table import Tensor, TensorTable


@dataclass(frozen=True, slots=True)
class Part:
    """One `part{rank}-of-{world}` directory of a compressed checkpoint."""

    name: str
    rank: int
    world: int
    checkpoint: "Checkpoint"


class Checkpoint:
    """A checkpoint directory whose headers and JSON files have been read.

    Attributes:
        path: the directory.
        files: its listing, sorted by name (one level).
        shards: the header of each visible `*.safetensors`, sorted by name.
        asked: names of the shards whose weights are asked for: all, unless `narrow` was called.
        table: all tensors of the shards.
        description: the description that counts; None when there is none or no single one.
        description_candidates: names of all description files.
        config: config.json, or None.
        indexes: every `*.safetensors.index.json`.
        sharded_metadata: `model_sharded_metadata.json` (profile OFF), or None.
        parts: the `part{r}-of-{N}` directories, by rank.
        rank_directories: names of `rank_{r}` directories (a distributed export left unmerged).
        nested: names of other sub-directories that hold weights of their own.
        profile: who wrote it, with evidence.
        kind: the family: "msmodelslim", "float", "compressed-tensors", "awq", ... or "unknown".
    """

    def __init__(self, path: Path, profile: str | None, *, parts: bool) -> None:
        self.path = path
        self.files = list_directory(path)
        self._notes: list[Defect] = []
        names = [f.name for f in self.files if not f.is_directory]
        directories = [f.name for f in self.files if f.is_directory]
        weights = [n for n in names if n.endswith(".safetensors") and not n.startswith(".")]
        self.shards: list[Header] = [read_header(path / n, name=n) for n in weights]
        self.asked = frozenset(weights)
        self.table = TensorTable(self.shards)
        self.description_candidates = [n for n in names if profiles.is_description(n)]
        self.description = self._description()
        self.config: Config | None = (
            read_config(path / "config.json") if "config.json" in names else None
        )
        self.indexes: list[SafetensorsIndex] = [
            read_index(path / n) for n in names if n.endswith(SUFFIX)
        ]
        self.sharded_metadata: JsonFile | None = (
            read_json(path / SHARDED_METADATA) if SHARDED_METADATA in names else None
        )
        self.rank_directories = [d for d in directories if RANK_DIRECTORY.fullmatch(d)]
        self.parts: list[Part] = _parts(path, directories, self._notes) if parts else []
        self.profile = detect(
            names, directories, self.description, self.description_candidates, self.config,
            self.table,
        )  # fmt: skip
        if profile is not None:
            self.profile = _force(profile, self.profile)
        self.nested = [] if not parts else self._nested(directories)
        self.kind = recognise_kind(
            names, self.profile, self.description_candidates, self.config, self.table
        )

    def __repr__(self) -> str:
        return f"<Checkpoint {self.path} {self.kind} {self.profile.name} {len(self.table)} tensors>"

    @property
    def defects(self) -> list[Defect]:
        """Every defect of every file of this directory (not of its parts)."""
        found = list(self._notes)
        for header in self.shards:
            found.extend(header.defects)
        for file in (self.description, self.config, self.sharded_metadata, *self.indexes):
            if file is not None:
                found.extend(file.defects)
        return found

    @property
    def foreign(self) -> str | None:
        """Why this is no checkpoint of this family, in one line; None when it is one."""
        if self.kind == "msmodelslim":
            return None
        what = {
            "unknown": "no checkpoint of a known family",
            "float": "a float model, not a quantized checkpoint",
        }.get(self.kind, f"a checkpoint of the {self.kind} family")
        why = f"{what} ({'; '.join((*self.profile.evidence, *self.profile.conflicts))})"
        return f"{why}; try its sub-directory {clip(self.nested[0])}" if self.nested else why

    @cached_property
    def norm_dtypes(self) -> Counter[str]:
        """How many norm weights (`*norm.weight`, BERT's `*LayerNorm.weight`) there are by dtype."""
        endings = ("norm.weight", "Norm.weight")
        rows = (i for i, name in enumerate(self.table.names) if name.endswith(endings))
        return Counter(self.table.dtype(i) for i in rows)

    @property
    def model_dtype(self) -> str | None:
        """The dtype D of the float model: config.json's, else that of most norm weights."""
        if self.config is not None and self.config.model_dtype is not None:
            return self.config.model_dtype
        common = [tag for tag, _ in self.norm_dtypes.most_common() if tag in ("F16", "BF16", "F32")]
        return common[0] if common else None

    @property
    def model_dtype_conflict(self) -> str | None:
        """What contradicts `model_dtype`: no norm weight has the dtype that config.json states."""
        stated = self.config.model_dtype if self.config is not None else None
        if stated is None or not self.norm_dtypes or stated in self.norm_dtypes:
            return None
        found = ", ".join(sorted(self.norm_dtypes))
        return f"config.json states {stated}, the norm weights are {found}"

    @cached_property
    def optional(self) -> list[Header]:
        """Headers of `optional/*.safetensors` (rotations), read when first asked."""
        folder = self.path / "optional"
        if not any(f.name == "optional" and f.is_directory for f in self.files):
            return []
        names = [f.name for f in list_directory(folder) if f.name.endswith(".safetensors")]
        return [read_header(folder / n, name=f"optional/{n}") for n in names]

    def narrow(self, globs: Sequence[str]) -> None:
        """Ask only for shards that match a glob, here and in the parts (as PART/NAME)."""
        for prefix, holder in (("", self), *((f"{p.name}/", p.checkpoint) for p in self.parts)):
            names = (shard.name for shard in holder.shards)
            holder.asked = frozenset(
                name for name in names if any(fnmatchcase(prefix + name, glob) for glob in globs)
            )

    def is_asked(self, tensor: str) -> bool:
        """Whether a tensor lies in a shard that is asked for."""
        row = self.table.find(tensor)
        return row is not None and self.table.file(row) in self.asked

    def tensor(self, name: str) -> NDArray[Any]:
        """Return tensor `name` in its stored dtype, read-only; mapped if it is large.

        Raises:
            CheckpointError: no such tensor, unusable offsets, or a sub-byte dtype.
        """
        row = self._row(name)
        dtype = numpy_dtype(row.dtype)
        if dtype is None:
            raise _unusable(row, f"dtype {row.dtype}", "one of whole bytes; read it with raw()")
        expected = dtype.itemsize * _product(row.shape)
        if row.end - row.begin != expected:
            wanted = f"{expected} for {row.dtype} {list(row.shape)}"
            raise _unusable(row, f"{row.end - row.begin} bytes", wanted)
        return self._bytes(row).view(dtype).reshape(row.shape)

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Return the stored bytes of tensor `name` as a read-only uint8 view, 1-D.

        Raises:
            CheckpointError: no such tensor or unusable offsets.
        """
        return self._bytes(self._row(name))

    def _row(self, name: str) -> Tensor:
        i = self.table.find(name)
        if i is None:
            raise CheckpointError(
                f"{clip(str(self.path))}: tensor '{clip(name, 120)}' is in no file"
            )
        row = self.table.row(i)
        if row.begin < 0:
            raise _unusable(row, "data_offsets outside the file", "offsets within it")
        return row

    def _bytes(self, row: Tensor) -> NDArray[np.uint8]:
        # One map per tensor: it goes with its last view, so that a scan holds one tensor at a time.
        try:
            return stored_bytes(f"{self.path}/{row.file}", row.begin, row.end - row.begin)
        except (OSError, ValueError) as error:
            found = f"bytes {row.begin} to {row.end} that cannot be read ({error})"
            raise _unusable(row, found, "a whole file") from None

    def _description(self) -> Description | None:
        candidates = self.description_candidates
        if PLAIN_DESCRIPTION in candidates:
            return read_description(self.path / PLAIN_DESCRIPTION)
        if len(candidates) == 1:
            return read_description(self.path / candidates[0])
        return None

    def _nested(self, directories: Sequence[str]) -> list[str]:
        own = {"optional", *(part.name for part in self.parts), *self.rank_directories}
        return [d for d in directories if d not in own and holds_weights(self.path / d)]


def open_checkpoint(path: str | Path, *, profile: str | None = None) -> Checkpoint:
    """Open a checkpoint directory; what is wrong with its files becomes defects.

    Args:
        path: the directory.
        profile: a producer profile that overrides the detected one.

    Raises:
        CheckpointError: `path` is missing, no directory, or cannot be listed.
    """
    return Checkpoint(Path(path), profile, parts=True)


def _parts(path: Path, directories: Sequence[str], notes: list[Defect]) -> list[Part]:
    parts = []
    for name in directories:
        match = PART.fullmatch(name)
        if not match:
            continue
        try:  # parts=False: a link back to the root must not recurse
            checkpoint = Checkpoint(path / name, "SC", parts=False)
        except CheckpointError as error:
            notes.append(defect("unreadable", name, str(error), "a readable directory"))
            continue
        parts.append(Part(name, int(match[1]), int(match[2]), checkpoint))
    return sorted(parts, key=lambda part: (part.world, part.rank))


def _force(profile: str, found: Detected) -> Detected:
    conflicts = found.conflicts
    if found.name != profile:
        conflicts = (f"the files say {found.name}: {'; '.join(found.evidence)}", *conflicts)
    return Detected(profile, ("asked for", *found.evidence), conflicts, forced=True)


def _unusable(row: Tensor, found: str, expected: str) -> CheckpointError:
    where = f"{clip(row.file)}: tensor '{clip(row.name, 120)}'"
    return CheckpointError(f"{where}: found {found}, expected {expected}")


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count

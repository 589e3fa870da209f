"""Compressed parts back to the W8A8S or W16A16S directory they came from.

Every weight is decoded strictly, un-fused and joined; what must be equal in all parts is compared.
The parts do not say in which dtype input_scale, input_offset and the float model were before the
compressor rounded them: that is the caller's to state.

Source: formats.md 1.5, 3.2 (W8A8S / W8A8SC, W16A16S / W16A16SC); sparse_codec.md.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import layout, sparse
from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.dtypes import tag_of, whole_dtype
from slimspec.checkpoint.errors import clip
from slimspec.checkpoint.writer import GIB, CheckpointWriter
from slimspec.layout import profiles
from slimspec.numeric import to_dtype
from slimspec.pipeline.dequantize import FLOAT_DTYPES

from .compress import pool
from .decompress_plan import DENSE, TILES, Parts, Source, find_map, open_parts, plan_sources
from .shard_plan import PER_TENSOR
from .shard_write import NO_VERSION

AnyArray = NDArray[Any]
_METADATA = ("kv_quant_type", "kv_cache_type", "fa_quant_type", "reduce_quant_type")
Restored = list[tuple[str, AnyArray, str | None]]


def decompress_directory(
    source: str | Path,
    out: str | Path,
    *,
    names: str | None = None,
    dtype: str | None = None,
    input_dtype: str | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda nbytes: None,
) -> int:
    """Write the sparse directory that the parts stand for; return its linears' number.

    Args:
        names: whose names the parts use; None finds out.
        dtype: safetensors tag of the float model; None = float16, as in the parts.
        input_dtype: the same for input_scale and input_offset; None = that of the stored scale.
        threads: workers, by default one per core; the bytes do not depend on it.

    Raises:
        CheckpointError: unusable source or output, a broken stream, parts that contradict each
            other.
    """
    parts = open_parts(source)
    if dtype == "BF16" and DENSE[parts.quant_type] == "W8A8S":
        raise CheckpointError("a W8A8S model is not bfloat16, expected float16 or float32")
    sources = plan_sources(parts, find_map(parts, names))
    with _writer(parts, out, overwrite) as writer:
        writer.copy_companions(parts.root.path, changes=_config_changes(parts, dtype))
        for done, restored in _results(parts, sources, dtype, input_dtype, threads):
            for name, array, label in restored:
                writer.write(name, array, label)
            progress(_size(parts, done))
    return sum(len(item.members) for item in sources if item.tiled)


def _writer(parts: Parts, out: str | Path, overwrite: bool) -> CheckpointWriter:
    profile = _profile(parts)
    return CheckpointWriter(
        out,
        profile=profile,
        model_quant_type=DENSE[parts.quant_type],
        part_file_size=(profiles.profile(profile).part_gib or 0) * GIB or None,
        metadata=_metadata(parts),
        group_size=_group_size(parts),
        overwrite=overwrite,
    )


def _config_changes(parts: Parts, dtype: str | None) -> dict[str, str | None]:
    """Members of config.json: profile A1 states no `quantize`. formats.md 1.4."""
    quantize = None if _profile(parts) == "A1" else DENSE[parts.quant_type].lower()
    return {"torch_dtype": _torch(dtype or "F16"), "quantize": quantize}


def _torch(tag: str) -> str:
    return next(name for name, known in FLOAT_DTYPES.items() if known == tag)


def _stated(parts: Parts, key: str) -> Any:
    description = parts.ranks[0].description
    return description.get(key) if description is not None else None


def _profile(parts: Parts) -> str:
    """Who wrote the sparse directory: W16A16S only A1, W8A8S A0 with a version and L0 without."""
    if DENSE[parts.quant_type] == "W16A16S":
        return "A1"
    return "L0" if _stated(parts, "version") in NO_VERSION else "A0"


def _metadata(parts: Parts) -> dict[str, Any]:
    return {key: value for key in _METADATA if (value := _stated(parts, key)) is not None}


def _group_size(parts: Parts) -> int:
    stated = _stated(parts, "group_size")
    return stated if type(stated) is int and stated > 0 else 0


def _results(
    parts: Parts,
    sources: list[Source],
    dtype: str | None,
    input_dtype: str | None,
    threads: int | None,
) -> Iterator[tuple[Source, Restored]]:
    """Yield what every module becomes, in order; a bounded number is under way."""
    workers = threads or cpu_count() or 1
    waiting: deque[tuple[Source, Future[Restored]]] = deque()
    with pool(workers) as executor:
        for item in sources:
            job = executor.submit(restore_module, parts, item, dtype, input_dtype)
            waiting.append((item, job))
            if len(waiting) > workers:
                done, job = waiting.popleft()
                yield done, job.result()
        while waiting:
            done, job = waiting.popleft()
            yield done, job.result()


def restore_module(
    parts: Parts, source: Source, dtype: str | None, input_dtype: str | None
) -> Restored:
    """Return (name, array, label) of everything that one module of the parts becomes.

    Raises:
        CheckpointError: a broken stream, or ranks that contradict each other.
    """
    suffixes = [s for s in source.suffixes if not source.tiled or s not in TILES[1:]]
    held: dict[str, list[AnyArray]] = {s: _held(parts, source, s) for s in suffixes}
    found: Restored = []
    for i, member in enumerate(source.members):
        whole: dict[str, AnyArray] = {}
        for suffix in suffixes:
            own = [_own(source, i, suffix, rank, a) for rank, a in enumerate(held[suffix])]
            try:
                whole[suffix] = member.join(suffix, own)
            except ValueError as error:
                name = f"{source.module}.{suffix}"
                raise CheckpointError(f"{parts.place(0, name)}: {error}") from None
        _restore_dtypes(whole, source.tiled, dtype, input_dtype)
        if source.tiled:
            _check(parts, source, member.module, whole)
        for suffix, array in whole.items():
            name = f"{member.module}.{suffix}" if member.module else suffix
            found.append((name, array, _label(parts, source, member.module, suffix)))
    return found


def _held(parts: Parts, source: Source, suffix: str) -> list[AnyArray]:
    """One tensor of a module in every part; a tiled weight is decoded."""
    name = f"{source.module}.{suffix}" if source.module else suffix
    if not source.tiled or suffix != "weight":
        return [checkpoint.tensor(name) for checkpoint in parts.ranks]
    mode: sparse.codec.ModeName = "high" if parts.quant_type == "W16A16SC" else "low"
    decoded: list[AnyArray] = []
    for rank, checkpoint in enumerate(parts.ranks):
        weight, index, info = (checkpoint.tensor(f"{source.module}.{s}") for s in TILES)
        try:
            plain = sparse.decompress(weight, index, info, mode, threads=1)
            decoded.append(sparse.as_float16(plain) if mode == "high" else plain)
        except ValueError as error:
            raise CheckpointError(f"{parts.place(rank, name)}: {error}") from None
    return decoded


def _own(source: Source, i: int, suffix: str, rank: int, array: AnyArray) -> AnyArray:
    """The rows of a fused tensor that belong to member i; anything else as it is."""
    if len(source.members) == 1 or suffix in PER_TENSOR:
        return array
    start = sum(widths[rank] for widths in source.widths[:i])
    return array[start : start + source.widths[i][rank]]


def _restore_dtypes(
    tensors: dict[str, AnyArray], linear: bool, dtype: str | None, input_dtype: str | None
) -> None:
    """Convert what the compressor converted, as far as the caller knows from what."""
    scale = tensors.get("input_scale")
    stored = None if scale is None else tag_of(scale.dtype)
    target = input_dtype or (dtype if stored == "F16" else None) or stored or "F16"
    for suffix, array in tensors.items():
        if linear and suffix in PER_TENSOR:
            wide = array.astype(np.float32) if array.dtype == np.int8 else array
            tensors[suffix] = to_dtype(wide, whole_dtype(target))
        elif dtype is not None and array.dtype == np.float16:
            tensors[suffix] = to_dtype(array, whole_dtype(dtype))


def _check(parts: Parts, source: Source, module: str, tensors: dict[str, AnyArray]) -> None:
    """Refuse a linear whose tensors do not have the shapes of its type."""
    rules = layout.rules(DENSE[parts.quant_type], _profile(parts))
    for suffix, rule in rules.items():
        if rule.presence == "required" and suffix not in tensors:
            raise CheckpointError(f"{parts.place(0, f'{source.module}.{suffix}')} is missing")
    shapes = {suffix: array.shape for suffix, array in tensors.items() if suffix in rules}
    for problem in layout.bind(rules, shapes).problems:
        place = f"{clip(module, 120)}: {problem.suffix}"
        found = list(problem.found)
        raise CheckpointError(f"{place} of all parts: found {found}, expected {problem.expected}")


def _label(parts: Parts, source: Source, module: str, suffix: str) -> str | None:
    label = parts.labels.get(f"{source.module}.{suffix}" if source.module else suffix)
    # the second copy of a norm carries the type of the model
    second = module.endswith("norm.module") and _profile(parts) == "L0"
    return DENSE[parts.quant_type] if second else DENSE.get(label or "", label)


def _size(parts: Parts, source: Source) -> int:
    """Stored bytes of a module in all parts."""
    names = [f"{source.module}.{s}" if source.module else s for s in source.suffixes]
    rows = ((part.table, part.table.index(name)) for part in parts.ranks for name in names)
    return sum(int(table.end[i] - table.begin[i]) for table, i in rows)

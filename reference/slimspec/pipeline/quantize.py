"""A float directory to a quantized directory, for schemes that need no calibration run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimspec import schemes
from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from slimspec.checkpoint.writer import GIB, CheckpointWriter
from slimspec.pipeline.select import linear_modules
from slimspec.quantize.affine import Variant
from slimspec.schemes import Linear, Scheme

VARIANTS: dict[str, Variant] = {"A1": "v1", "MF": "v1", "A0": "v0", "L0": "v0"}
DATA_FREE = ("W8A8_DYNAMIC", "W8A16")
STATIC = ("W8A8", "W8A8_MIX")  # need the range of each linear's input

Progress = Callable[[int], None]  # called with the number of source bytes just done


@dataclass(frozen=True)
class Plan:
    """What to do with a float directory.

    Attributes:
        scheme: label of the quantization type.
        producer: profile to write, "A1" or "A0"; it also fixes the arithmetic.
        group_size: columns per group, 0 for one scale per row.
        symmetric: weights without an offset.
        include, exclude: globs over module names.
        part_file_size: GiB per shard, 0 for one file.
        ranges: glob over module names -> [lowest, highest] input, for the static types; the
            first glob that matches counts.
    """

    scheme: str
    producer: str = "A1"
    group_size: int = 0
    symmetric: bool = True
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    part_file_size: float = 4
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)


def quantize_directory(
    source: str | Path,
    out: str | Path,
    plan: Plan,
    *,
    overwrite: bool = False,
    progress: Progress = lambda nbytes: None,
) -> int:
    """Quantize every linear of `source` into the new directory `out`; return their number.

    Raises:
        CheckpointError: unusable source or output; a weight that the scheme refuses.
    """
    float_model = open_float(source)
    scheme = schemes.get(plan.scheme)
    modules = set(linear_modules(float_model.table, plan.include, plan.exclude))
    if not modules:
        raise CheckpointError(f"{source}: no linear to quantize (2-D float `.weight`)")
    limit = int(plan.part_file_size * GIB) or None
    with CheckpointWriter(
        out,
        profile=plan.producer,
        model_quant_type=plan.scheme,
        group_size=plan.group_size,
        part_file_size=limit,
        overwrite=overwrite,
    ) as writer:
        writer.copy_companions(source)
        for tensor in float_model.table:
            module, _, suffix = tensor.name.rpartition(".")
            if module not in modules or suffix not in ("weight", "bias"):
                writer.write(tensor.name, float_model.tensor(tensor.name), "FLOAT")
            elif suffix == "weight":
                _write_linear(float_model, module, tensor.dtype, scheme, plan, writer)
            progress(tensor.end - tensor.begin)
    return len(modules)


def open_float(source: str | Path) -> Checkpoint:
    """Open a float directory.

    Raises:
        CheckpointError: unreadable, defective, or not a float model.
    """
    checkpoint = open_checkpoint(source)
    if checkpoint.kind != "float":
        raise CheckpointError(
            f"{source}: found a {checkpoint.kind} directory, expected float *.safetensors"
        )
    for shard in checkpoint.shards:
        for defect in shard.defects:
            raise CheckpointError(f"{source}: {defect.message}")
    for name, files in checkpoint.table.duplicates.items():
        places = " and ".join(checkpoint.table.files[file] for file in files)
        raise CheckpointError(f"{source}: tensor {name} is stored in {places}")
    return checkpoint


def _write_linear(
    float_model: Checkpoint,
    module: str,
    dtype: str,
    scheme: Scheme,
    plan: Plan,
    writer: CheckpointWriter,
) -> None:
    bias_name = f"{module}.bias"
    bias = float_model.tensor(bias_name) if bias_name in float_model.table else None
    weight = float_model.tensor(f"{module}.weight")
    try:
        quantized = scheme.quantize(
            Linear(weight, bias, module),
            variant=VARIANTS[plan.producer],
            group_size=plan.group_size,
            symmetric=plan.symmetric,
            activation_range=_range(plan, module, weight.dtype),
        )
        tensors = scheme.tensors(quantized, plan.producer, dtype)
    except ValueError as error:
        named = "" if module in str(error) else f"{module}.weight: "
        raise CheckpointError(f"{float_model.path}: {named}{error}") from None
    for suffix, array in tensors.items():
        label = "FLOAT" if suffix == "bias" else plan.scheme
        writer.write(f"{module}.{suffix}", array, label)


def _range(
    plan: Plan, module: str, dtype: np.dtype
) -> tuple[NDArray[np.generic], NDArray[np.generic]] | None:
    """The input range of a linear, as arrays [1] in the model dtype; None for dynamic types."""
    if plan.scheme not in STATIC:
        return None
    for glob, bounds in plan.ranges.items():
        if fnmatchcase(module, glob):
            lo, hi = (np.array([bound], dtype=dtype) for bound in bounds)
            return lo, hi
    raise ValueError(f"{module}: no activation range for it, expected a glob that matches")

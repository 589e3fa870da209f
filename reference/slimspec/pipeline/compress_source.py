"""Open a sparse directory and refuse, in one line, what cannot become W8A8SC or W16A16SC.

Source: formats.md 2.3, 3.2 (W8A8S, W16A16S), 5.12 SP; seeds/001:671 (no bfloat16).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimspec import layout
from slimspec.checkpoint import Checkpoint, CheckpointError, Tensor, open_checkpoint
from slimspec.checkpoint.errors import clip
from slimspec.numeric import as_float32, to_dtype

from .shard_map import last
from .shard_plan import SPARSE, by_module
from .shard_write import pieces

_BESIDE = ("FLOAT", "C8", "FAQuant")  # labels that may stand beside the sparse one


@dataclass(frozen=True)
class SparseSource:
    """A sparse checkpoint that can be compressed.

    Attributes:
        checkpoint: the directory.
        quant_type: "W8A8S" or "W16A16S".
        dtype: safetensors tag of the float model as it is stored.
        tensors: name -> tensor, in the order of the description.
        labels: name -> label; a norm that outlier suppression stored twice is FLOAT here.
    """

    checkpoint: Checkpoint
    quant_type: str
    dtype: str
    tensors: Mapping[str, Tensor]
    labels: Mapping[str, str]

    @cached_property
    def linears(self) -> list[str]:
        """The modules whose weight is sparse."""
        weights = (name for name in self.tensors if name.endswith(".weight"))
        return [n.removesuffix(".weight") for n in weights if self.labels.get(n) in SPARSE]


def open_sparse(source: str | Path, *, to_float16: bool = False) -> SparseSource:
    """Open a W8A8S or W16A16S directory.

    Raises:
        CheckpointError: unreadable, defective, of another type or dtype.
    """
    checkpoint = open_checkpoint(source)
    where = clip(str(source))
    wanted = f"a directory of type {' or '.join(SPARSE)}"
    if checkpoint.parts:
        raise CheckpointError(f"{where}: found part directories, expected {wanted}")
    if checkpoint.kind != "msmodelslim" or checkpoint.description is None:
        raise CheckpointError(f"{where}: found a {checkpoint.kind} directory, expected {wanted}")
    quant_type = checkpoint.description.get("model_quant_type")
    if quant_type not in SPARSE:
        raise CheckpointError(f"{where}: found type {clip(quant_type)}, expected {wanted}")
    refuse_defects(checkpoint)
    labels = {
        name: "FLOAT" if _second_norm(name) else label
        for name, label in checkpoint.description.labels.items()
    }
    found = SparseSource(
        checkpoint, quant_type, _stored_dtype(checkpoint), _in_order(checkpoint, labels), labels
    )
    _check_labels(found)
    _check_dtype(found, to_float16)
    _check_linears(found)
    return found


def refuse_defects(checkpoint: Checkpoint) -> None:
    """Raise the first defect of a directory as one error."""
    where = clip(str(checkpoint.path))
    for found in checkpoint.defects:
        raise CheckpointError(f"{where}: {found.message}")
    for name, files in checkpoint.table.duplicates.items():
        places = " and ".join(checkpoint.table.files[file] for file in files)
        raise CheckpointError(f"{where}: tensor {clip(name, 120)!r} is stored in {places}")


def _second_norm(name: str) -> bool:
    """True for NORM.module.*, which carries the label of the model although it is a norm."""
    module = name.rpartition(".")[0]
    return module.endswith("norm.module")


def _stored_dtype(checkpoint: Checkpoint) -> str:
    """The dtype config.json states, if tensors have it: it may have been edited for the engine.

    Otherwise that of most norm weights.
    """
    stated = checkpoint.config.model_dtype if checkpoint.config else None
    if stated in {tensor.dtype for tensor in checkpoint.table}:
        return str(stated)
    for tag, _ in checkpoint.norm_dtypes.most_common():
        if tag in ("F16", "BF16", "F32"):
            return tag
    return checkpoint.model_dtype or "F16"


def _in_order(checkpoint: Checkpoint, labels: Mapping[str, str]) -> dict[str, Tensor]:
    table = checkpoint.table
    described = [name for name in labels if name in table]
    rows = dict.fromkeys([*described, *table.names])
    return {name: table.row(table.index(name)) for name in rows}


def _error(source: SparseSource, name: str, found: object, expected: object) -> CheckpointError:
    file = source.tensors[name].file
    return CheckpointError(
        f"{clip(str(source.checkpoint.path))}: {clip(file)}: tensor {clip(name, 120)!r}: "
        f"found {clip(found)}, expected {clip(expected)}"
    )


def _check_labels(source: SparseSource) -> None:
    allowed = (source.quant_type, *_BESIDE)
    for name in source.tensors:
        label = source.labels.get(name)
        if label is not None and label not in allowed:
            raise _error(source, name, f"label {label}", f"one of {', '.join(allowed)}")
    if not source.linears:
        raise CheckpointError(
            f"{clip(str(source.checkpoint.path))}: no weight is labelled {source.quant_type}"
        )


def _check_dtype(source: SparseSource, to_float16: bool) -> None:
    where = clip(str(source.checkpoint.path))
    if source.dtype == "BF16" and source.quant_type == "W8A8S":
        raise CheckpointError(f"{where}: a bfloat16 model has no W8A8SC form, expected float16")
    if source.dtype != "F16" and not to_float16:
        raise CheckpointError(
            f"{where}: the model is {source.dtype}, expected F16; --to-float16 converts it"
        )


def _check_linears(source: SparseSource) -> None:
    profile = source.checkpoint.profile.name or "A1"
    written = layout.load(source.quant_type).profiles
    rules = layout.rules(source.quant_type, profile if profile in written else written[0])
    modules = by_module(list(source.tensors))
    for module in source.linears:
        own = {s: source.tensors[f"{module}.{s}"] for s in modules[module] if s in rules}
        for suffix, rule in rules.items():
            name = f"{module}.{suffix}"
            if suffix not in own:
                if rule.presence == "required":
                    where = clip(str(source.checkpoint.path))
                    raise CheckpointError(f"{where}: tensor {clip(name, 120)!r} is missing")
                continue
            if rule.presence == "forbidden":
                raise _error(source, name, "a tensor", f"none in type {source.quant_type}")
            allowed = rule.resolve_dtypes(source.dtype)
            if own[suffix].dtype not in allowed:
                raise _error(source, name, own[suffix].dtype, " or ".join(sorted(allowed)))
        bound = layout.bind(rules, {suffix: tensor.shape for suffix, tensor in own.items()})
        for problem in bound.problems:
            raise _error(
                source, f"{module}.{problem.suffix}", list(problem.found), problem.expected
            )
        scale = own.get("deq_scale")
        if scale is not None and scale.shape != (bound.env["n"],):
            # one scale for the whole matrix (mm_tensor) has no compressed form: formats.md D5
            raise _error(source, scale.name, list(scale.shape), f"[n] = [{bound.env['n']}]")
        if not all(own["weight"].shape):
            raise _error(source, own["weight"].name, list(own["weight"].shape), "rows and columns")


@dataclass
class Loss:
    """What float16 cannot hold exactly, of one kind of tensors."""

    tensors: int = 0
    values: int = 0
    largest: float = 0.0  # relative change

    def add(self, before: NDArray[np.generic]) -> None:
        """Count the values of one tensor that change when they are rounded to float16."""
        changed = 0
        for piece in pieces(before):
            wide = as_float32(piece)
            narrow = as_float32(to_dtype(wide, np.float16))
            where = (wide != narrow) & ~np.isnan(wide)
            if where.any():
                with np.errstate(invalid="ignore", over="ignore"):
                    step = np.abs(narrow[where] - wide[where]) / np.abs(wide[where])
                changed += int(where.sum())
                self.largest = max(self.largest, float(step.max()))
        self.tensors += changed > 0
        self.values += changed


def measure_losses(source: SparseSource, *, inputs: bool, floats: bool) -> tuple[Loss, Loss]:
    """Return what rounding to float16 changes in input_scale and in the float tensors."""
    scales, others = Loss(), Loss()
    for name, tensor in source.tensors.items():
        suffix = last(name)
        if suffix == "input_scale":
            if inputs and tensor.dtype != "F16":
                scales.add(source.checkpoint.tensor(name))
        elif floats and tensor.dtype == source.dtype != "F16" and suffix != "input_offset":
            others.add(source.checkpoint.tensor(name))
    return scales, others

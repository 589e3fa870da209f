"""Types of the grid that are made from a quantized directory: what they store beside or instead."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import layout, schemes
from slimspec.checkpoint import open_checkpoint
from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.checkpoint.writer import CheckpointWriter
from slimspec.golden.grid import Cell
from slimspec.golden.recipes import RANGES
from slimspec.golden.tiny_models import HEADS
from slimspec.numeric import as_float32, to_dtype
from slimspec.pipeline.quantize import VARIANTS
from slimspec.schemes import Linear
from slimspec.smooth.hadamard import decompose

Array = NDArray[Any]
Written = Iterator[tuple[str, Array, str | None]]  # name, tensor, label
_ROW_PARALLEL = (".self_attn.o_proj", ".mlp.down_proj")


def stack_steps(steps: Sequence[Path], out: Path, cell: Cell) -> None:
    """W8A8_TIMESTEP from a W8A8 directory per time step: what depends on the range is stacked."""
    checkpoints = [open_checkpoint(step) for step in steps]
    labels = _labels(steps[0])

    def tensors(name: str, array: Array) -> Written:
        several = [checkpoint.tensor(name) for checkpoint in checkpoints]
        if name.endswith((".input_scale", ".input_offset")):
            array = np.concatenate(several)  # (T,)
        elif name.endswith((".quant_bias", ".deq_scale")):
            array = np.stack(several)  # (T, n)
        yield name, array, "FLOAT" if labels[name] == "FLOAT" else cell.type

    _rewrite(steps[0], out, tensors, profile=cell.profile, quant_type=cell.type)


def cut_for_reduce(source: Path, whole: Path, out: Path, cell: Cell, ranks: int) -> None:
    """The W8A8 directory `whole` with row-parallel linears cut along k, each shard by itself.

    Args: source: the float model.
    """
    weights, labels = open_checkpoint(source), _labels(whole)
    rules = layout.rules("reduce", cell.profile)

    def tensors(name: str, array: Array) -> Written:
        module, _, suffix = name.rpartition(".")
        if not module.endswith(_ROW_PARALLEL) or labels[name] == "FLOAT":
            yield name, array, labels[name]
        elif suffix == "weight":
            cuts = np.split(weights.tensor(name), ranks, axis=1)  # ranks x (n, k / ranks)
            shards = [_static(cut, module, cell) for cut in cuts]
            yield name, np.concatenate([shard["weight"] for shard in shards], axis=1), "W8A8"
            for rank, shard in enumerate(shards):
                for part, values in shard.items():
                    yield f"{module}.tp_list.{rank}.{part}", values, "W8A8"
            for part in ("gather_scale", "reduce_scale"):
                dtype = whole_dtype(layout.write_dtype(rules[part], cell.model_dtype))
                scale = np.full(array.shape[0], 0.0625, np.float32)
                yield f"{module}.{part}", to_dtype(scale, dtype), "W8A8"

    metadata = {"reduce_quant_type": "per_channel"} if cell.profile == "A0" else {}
    _rewrite(whole, out, tensors, profile=cell.profile, quant_type="W8A8", metadata=metadata)


def _static(weight: Array, module: str, cell: Cell) -> Mapping[str, Array]:
    """The W8A8 tensors of one shard of a linear."""
    bounds = next(bounds for glob, bounds in RANGES.items() if fnmatchcase(module, glob))
    low, high = (np.array([bound]).astype(weight.dtype) for bound in bounds)
    scheme = schemes.get("W8A8")
    linear = Linear(np.ascontiguousarray(weight), None, module)
    made = scheme.quantize(linear, variant=VARIANTS[cell.profile], activation_range=(low, high))
    return scheme.tensors(made, cell.profile, cell.model_dtype)


def rotate(
    source: Path, out: Path, orthogonal: Callable[[int], NDArray[np.float32]]
) -> dict[str, dict[str, Array]]:
    """Rotate the inputs of o_proj (across heads) and down_proj in a float model.

    Returns: member of metadata.quarot -> name of a tensor -> rotation.
    """
    found: dict[str, dict[str, Array]] = {"heads_rotation": {}, "kronecker_rotation": {}}

    def tensors(name: str, array: Array) -> Written:
        module = name.removesuffix(".weight")
        if name.endswith(".o_proj.weight"):
            heads = orthogonal(HEADS)
            found["heads_rotation"][f"{module}.heads_rotation"] = heads
            array = _turned(array, np.kron(heads, np.eye(array.shape[1] // HEADS)))
        elif name.endswith(".down_proj.weight"):
            m, n = (orthogonal(size) for size in decompose(array.shape[1]))
            found["kronecker_rotation"][f"{module}.kronecker_rotation_m"] = m
            found["kronecker_rotation"][f"{module}.kronecker_rotation_n"] = n
            array = _turned(array, np.kron(m, n))
        yield name, array, None

    _rewrite(source, out, tensors, profile="FLOAT")
    return found


def _turned(weight: Array, rotation: Array) -> Array:
    """weight [n, k] · rotation [k, k]; sums of few products of powers of two are exact."""
    product = as_float32(weight).astype(np.float64) @ rotation
    return to_dtype(product.astype(np.float32), weight.dtype)


def add_rotations(
    quantized: Path, out: Path, rotations: Mapping[str, Mapping[str, Array]], cell: Cell
) -> None:
    """Store rotations beside their linears and list the linears in the description."""
    labels = _labels(quantized)
    beside = {name: array for group in rotations.values() for name, array in group.items()}

    def tensors(name: str, array: Array) -> Written:
        yield name, array, labels[name]
        if name.endswith(".weight"):
            module = name.removesuffix("weight")
            yield from ((n, a, None) for n, a in beside.items() if n.startswith(f"{module}"))

    quarot = {
        member: {"layers": list(dict.fromkeys(name.rpartition(".")[0] for name in group))}
        for member, group in rotations.items()
    }
    _rewrite(
        quantized, out, tensors, profile=cell.profile, quant_type="W8A8_DYNAMIC",
        metadata={"metadata": {"quarot": quarot}},
    )  # fmt: skip


def _labels(directory: Path) -> Mapping[str, str]:
    description = open_checkpoint(directory).description
    assert description is not None
    return description.labels


def _rewrite(
    source: Path,
    out: Path,
    tensors: Callable[[str, Array], Written],
    *,
    profile: str,
    quant_type: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Copy a directory into one file; `tensors` yields what stands in the place of each tensor."""
    checkpoint = open_checkpoint(source)
    with CheckpointWriter(
        out, profile=profile, model_quant_type=quant_type, metadata=metadata
    ) as writer:
        writer.copy_companions(source)
        for name in checkpoint.table.names:
            for written in tensors(name, checkpoint.tensor(name)):
                writer.write(*written)

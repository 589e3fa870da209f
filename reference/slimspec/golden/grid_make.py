"""Make the checkpoint of a cell of the grid; the same command makes the same bytes.

Entries of the added matrices are powers of two: no sum of products is rounded, so that the bytes
depend on no linear algebra library.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import open_checkpoint
from slimspec.checkpoint.writer import GIB
from slimspec.golden import grid_added
from slimspec.golden.attention import add_attention
from slimspec.golden.grid import Cell
from slimspec.golden.recipes import RANGES
from slimspec.golden.tiny_models import KV_HEADS, write_float
from slimspec.layout import profiles
from slimspec.pipeline.compress import Options, compress_directory
from slimspec.pipeline.quantize import Plan, quantize_directory
from slimspec.pipeline.recipe import Rule
from slimspec.pipeline.select import linear_modules
from slimspec.smooth.hadamard import decompose, walsh

_GROUP = 32
_RANKS = 2
_STEPS = (1.0, 0.5, 0.25)  # of the input ranges, one per time step


def make(cell: Cell, out: Path, work: Path) -> None:
    """Write the checkpoint of `cell` to `out`.

    Args:
        out: to create.
        work: folder for float models and steps; it may be the same for many cells.

    Raises:
        CheckpointError: `out` exists or cannot be written.
    """
    _MAKERS.get(cell.type, _plain)(cell, out, work)
    for path in (out, *out.rglob("*")):  # modes are no part of the corpus
        path.chmod(0o755 if path.is_dir() else 0o644)


def _plain(cell: Cell, out: Path, work: Path) -> None:
    kind = "sparse-" if cell.type in ("W8A8S", "W16A16S") else ""
    _quantize(_float(cell, work, kind), out, cell.type, cell.profile)


def _attention(cell: Cell, out: Path, work: Path) -> None:
    host = work / f"{cell.id}-host"
    _quantize(_float(cell, work), host, "W8A8_DYNAMIC", cell.profile)
    heads = 1 if cell.model == "mla" else KV_HEADS
    size = int((profiles.profile(cell.profile).part_gib or 0) * GIB) or None
    add_attention(
        host, out, cell.type, cell.profile, cell.dtype, kv_heads=heads, part_file_size=size
    )


def _compressed(cell: Cell, out: Path, work: Path) -> None:
    label = cell.type.removesuffix("C")
    sparse = work / f"{cell.id}-sparse"
    _quantize(_float(cell, work, "sparse-"), sparse, label, "A0" if label == "W8A8S" else "A1")
    compress_directory(sparse, out, Options(tp=_RANKS, threads=1))


def _timestep(cell: Cell, out: Path, work: Path) -> None:
    steps = []
    for number, step in enumerate(_STEPS):
        steps.append(work / f"{cell.id}-step{number}")
        _quantize(_float(cell, work), steps[-1], "W8A8", cell.profile, step)
    grid_added.stack_steps(steps, out, cell)


def _reduce(cell: Cell, out: Path, work: Path) -> None:
    source, whole = _float(cell, work), work / f"{cell.id}-whole"
    _quantize(source, whole, "W8A8", cell.profile)
    grid_added.cut_for_reduce(source, whole, out, cell, _RANKS)


def _rotation(cell: Cell, out: Path, work: Path) -> None:
    rotated, quantized = work / f"{cell.id}-float", work / f"{cell.id}-quantized"
    rotations = grid_added.rotate(_float(cell, work), rotated, orthogonal)
    _quantize(rotated, quantized, "W8A8_DYNAMIC", cell.profile)
    grid_added.add_rotations(quantized, out, rotations, cell)


_MAKERS: Mapping[str, Callable[[Cell, Path, Path], None]] = {
    "C8": _attention,
    "FAQuant": _attention,
    "W8A8SC": _compressed,
    "W16A16SC": _compressed,
    "W8A8_TIMESTEP": _timestep,
    "reduce": _reduce,
    "rotation": _rotation,
}


def _float(cell: Cell, work: Path, kind: str = "") -> Path:
    source = work / f"{kind}{cell.model}-{cell.dtype}"
    if not source.exists():
        write_float(source, cell.dtype, f"{kind}{cell.model}")
    return source


def _quantize(source: Path, out: Path, label: str, profile: str, step: float = 1.0) -> None:
    """Quantize every linear as `label`; `step` times the ranges are those of the inputs."""
    table = open_checkpoint(source).table
    rules = {}
    for module in linear_modules(table) if label != "FLOAT" else ():
        n, k = table.shape(table.index(f"{module}.weight"))
        rules[module] = Rule(module, label, _options(label, profile, n, k))
    ranges = {glob: [step * bound for bound in bounds] for glob, bounds in RANGES.items()}
    size = profiles.profile(profile).part_gib or 0
    quantize_directory(
        source, out, Plan(label, profile, ranges=ranges, part_file_size=size, rules=rules)
    )


def _options(label: str, profile: str, n: int, k: int) -> dict[str, Any]:
    if label == "W4A8_DYNAMIC" and profile != "A1":
        return {"group_size": _GROUP}
    if label.endswith("_DUALSCALE"):
        return {"dual_block": _GROUP}
    if "_FLATQUANT" in label:
        left, right = (orthogonal(size) for size in decompose(k))
        clip = np.array([0.875], np.float32)
        return {"parts": {"left_trans": left, "right_trans": right, "clip_ratio": clip}}
    if "_SVD" in label:
        l1, l2 = np.full((1, k), 0.125, np.float32), np.full((n, 1), 0.125, np.float32)
        return {"parts": {"svd_lowrank_l1": l1, "svd_lowrank_l2": l2}}
    return {}


def orthogonal(size: int) -> NDArray[np.float32]:
    """Return an orthogonal matrix with entries 0 and ±1/2; `size` is a multiple of 4."""
    matrix = np.zeros((size, size), np.float32)  # of +0 alone, which a Kronecker product is not
    for at in range(0, size, 4):
        matrix[at : at + 4, at : at + 4] = walsh(4) / np.float32(2)
    return matrix

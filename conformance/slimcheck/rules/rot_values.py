"""ROT: rotations beside the weights, elements."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import ROTATIONS, Context
from slimcheck.described import as_count
from slimcheck.findings import Finding
from slimcheck.layouts import FLOATS, rules_of
from slimcheck.registry import rule, value_rule
from slimcheck.values.modules import Module
from slimspec import layout
from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.dtypes import numpy_dtype
from slimspec.numeric import as_float32

# Rounding every element of an orthogonal R by a factor 1 + e, |e| <= 2^-9 (bfloat16), moves an
# element of R^T R by at most 2|e| + e^2 < 2^-7, as the rows of |R| have length 1.
_TOLERANCE = 2.0**-7
_BLOCK = 32  # columns compared with each other
_ORTHOGONAL = "a square matrix R with RᵀR = I within 2^-7"
_FACTORS = ("kronecker_rotation_m", "kronecker_rotation_n")


@value_rule("ROT-002")
def rotations_are_orthogonal(ck: Context, module: Module) -> Iterator[Finding]:
    for suffix in sorted(ROTATIONS & module.cls.tensors.keys()):
        spec = module.cls.tensors[suffix]
        found = _no_matrix(spec.dtype, spec.shape) or _defect(module.array(suffix))
        if found:
            name = (module.tensor(suffix),)
            yield Finding("ROT-002", "rotation", found, _ORTHOGONAL, name, module.file(suffix))
    yield from _kronecker_size(ck, module)


def _kronecker_size(ck: Context, module: Module) -> Iterator[Finding]:
    shapes = module.cls.shapes
    rules = rules_of(module.label, ck.profile) if module.label else None
    k = layout.bind(rules, shapes).env.get("k") if rules else None
    sizes = [shapes[suffix][:1] for suffix in _FACTORS if suffix in shapes]
    if k is None or len(sizes) != 2 or not all(sizes):
        return
    (p,), (q,) = sizes
    if p * q != k:
        names = tuple(module.tensor(suffix) for suffix in _FACTORS)
        expected = f"sizes that multiply to k = {k}"
        yield Finding("ROT-002", "size", f"{p} · {q}", expected, names, module.file(_FACTORS[0]))


@rule("ROT-003", reads=True)
def global_rotation_is_orthogonal(ck: Context) -> Iterator[Finding]:
    config = ck.root.config
    hidden = as_count(config.get("hidden_size")) if config else None
    for tensor, path in ck.optional_tensors():
        header = next((h for h in ck.checkpoint.optional if h.name == path), None)
        entry = next((e for e in header.entries if e.name == tensor), None) if header else None
        if header is None or entry is None:  # DIR-022
            continue
        found = _no_matrix(entry.dtype, entry.shape)
        if not found and hidden and entry.shape[0] != hidden:
            found = f"shape {list(entry.shape)}, hidden_size {hidden}"
        if not found:
            dtype = numpy_dtype(entry.dtype)
            size = entry.shape[0] * entry.shape[1]
            if dtype is None or entry.begin < 0 or entry.end - entry.begin != size * dtype.itemsize:
                raise CheckpointError(f"{path}: tensor {tensor!r} cannot be read")
            stored = np.memmap(header.path, dtype, "r", entry.begin, entry.shape)
            found = _defect(stored)
        if found:
            yield Finding("ROT-003", "rotation", found, _ORTHOGONAL, (tensor,), path)


def _no_matrix(dtype: str, shape: tuple[int, ...]) -> str:
    square = len(shape) == 2 and shape[0] == shape[1] and shape[0] > 0
    return "" if square and dtype in FLOATS else f"{dtype} {list(shape)}"


def _defect(stored: NDArray[Any]) -> str:
    """Why a square matrix is not orthogonal, "" where nothing speaks against it.

    The length of every row and column is compared with 1, columns with others of their block.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        rotation = as_float32(stored).astype(np.float64)  # [h, h]
        if not np.isfinite(rotation).all():
            return "not all numbers are finite"
        for axis, what in ((1, "row"), (0, "column")):
            lengths = np.square(rotation).sum(axis=axis)
            worst = int(np.argmax(np.abs(lengths - 1)))
            if not abs(lengths[worst] - 1) <= _TOLERANCE:
                return f"{what} {worst} has the squared length {lengths[worst]:.6g}"
        for at in range(0, len(rotation), _BLOCK):
            columns = rotation[:, at : at + _BLOCK]
            gram = np.abs(columns.T @ columns - np.eye(columns.shape[1]))
            if not gram.max() <= _TOLERANCE:
                i, j = np.unravel_index(int(np.argmax(gram)), gram.shape)
                return f"columns {at + int(i)} and {at + int(j)} have the product {gram.max():.6g}"
    return ""

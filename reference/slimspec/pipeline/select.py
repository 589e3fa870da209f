"""Which tensors of a float model are the weights of linears that quantizers take.

Embeddings, the output head and the routers of mixtures of experts stay float: engines load them
unquantized (requirements NUM-006, NUM-007, NUM-008). The names are in `schemas/layer_names.json`.
"""

from collections.abc import Sequence

from slimspec.checkpoint import CheckpointError, TensorTable
from slimspec.layout import layer_names
from slimspec.patterns import matches_glob

_FLOATS = ("F16", "BF16", "F32")


def linear_modules(
    table: TensorTable, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[str]:
    """Return the names of the modules to quantize, in file order.

    Args:
        table: tensors of the float model.
        include: globs over module names; none = every linear but those that stay float.
        exclude: globs over module names that stay float as well.
    """
    modules = []
    for row, name in enumerate(table.names):
        module, _, suffix = name.rpartition(".")
        if suffix != "weight" or len(table.shape(row)) != 2 or table.dtype(row) not in _FLOATS:
            continue
        chosen = _any(module, include) if include else not layer_names.stays_float(module)
        if chosen and not _any(module, exclude):
            modules.append(module)
    return modules


def _any(module: str, globs: Sequence[str]) -> bool:
    try:
        return any(matches_glob(module, glob) for glob in globs)
    except ValueError as error:
        raise CheckpointError(str(error)) from None

"""The operations of the corpus by name."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from .model import Operation

_MODULES = (
    "numeric", "quantizers", "packing", "activations", "epilogues", "weight_kernels", "experts",
    "attention", "tiles", "smoothing", "solvers", "rotations", "formats",
)  # fmt: skip


@cache
def operations() -> Mapping[str, Operation]:
    """Return name -> operation.

    Raises:
        ValueError: a name is defined twice.
    """
    found: dict[str, Operation] = {}
    for module in _MODULES:
        for op in import_module(f"{__name__}.{module}").OPERATIONS:
            if op.name in found:
                raise ValueError(f"operation {op.name} is defined twice")
            found[op.name] = op
    return MappingProxyType(found)


def operation(name: str) -> Operation:
    """Look an operation up. Raises: ValueError naming the known ones."""
    if name not in operations():
        raise ValueError(f"operation {name!r}: expected one of {', '.join(operations())}")
    return operations()[name]


__all__ = ["Operation", "operation", "operations"]

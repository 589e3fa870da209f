"""The definitions of the vectors: one module per family, the source of `golden/vectors`."""

from collections.abc import Iterator
from importlib import import_module

from .model import Definition, Tolerance

_MODULES = (
    "numeric", "quantizers", "packing", "activations", "epilogues", "weight_kernels", "experts",
    "attention", "heads", "latent", "tiles", "smoothing", "solvers", "rotations", "formats",
    "engineered", "engineered_kernels",
)  # fmt: skip


def definitions() -> Iterator[Definition]:
    """Every defined vector, family by family."""
    for module in _MODULES:
        yield from import_module(f"{__name__}.{module}").cases()


__all__ = ["Definition", "Tolerance", "definitions"]

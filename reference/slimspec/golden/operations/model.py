"""An operation that kernels implement: tensors, attributes, and how the reference runs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import whole_dtype

Tensors = Mapping[str, NDArray[Any]]
Attributes = Mapping[str, Any]
Made = tuple[dict[str, NDArray[Any]], dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """One operation of the corpus.

    Attributes:
        name: as the runner and the case files call it; mostly that of the reference function.
        formula: one line.
        run: (inputs, attributes) -> outputs and intermediates by name.
        outputs: what a kernel must produce, in order, as far as the case has it (a norm without
            bias has no `bias_out`); other results of `run` are intermediates.
        sample: (random, sizes, attributes) -> inputs and attributes of a random case, or None;
            sizes are named as in the project: m (t), n, k, g.
        diagnosis: name of the operation in the table of the numerics diagnosis, or None.
        keywords: input name -> argument of the diagnosis, where they differ.
    """

    name: str
    formula: str
    run: Callable[[Tensors, Attributes], dict[str, NDArray[Any]]]
    outputs: tuple[str, ...]
    sample: Callable[[np.random.RandomState, Mapping[str, int], Attributes], Made] | None = None
    diagnosis: str | None = None
    keywords: Mapping[str, str] = field(default_factory=dict)

    def split(self, made: Tensors) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
        """Return (outputs, intermediates) of a result of `run`."""
        outputs = {name: np.asarray(made[name]) for name in self.outputs if name in made}
        rest = {k: np.asarray(v) for k, v in made.items() if k not in self.outputs}
        return outputs, rest


def dtype_of(attributes: Attributes, name: str = "out_dtype", default: str = "F16") -> np.dtype:
    """Return the NumPy dtype of a dtype attribute, which holds a safetensors tag."""
    return whole_dtype(attributes.get(name, default))


def batches(t: Tensors) -> list[NDArray]:
    """Return the inputs x0, x1, ... in order."""
    return [t[name] for name in sorted(t, key=lambda n: (len(n), n)) if name[1:].isdigit()]


def numerics(attributes: Attributes) -> str:
    """Return the numerics profile of a case."""
    return attributes.get("numerics", "canonical")

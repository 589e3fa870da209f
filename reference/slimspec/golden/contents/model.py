"""How a vector is defined: inputs, and outputs that were not computed by the reference."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Origin = Literal["producer", "hand", "torch", "reference"]


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be off: units in the last place of floats, or steps of codes."""

    kind: Literal["ulp", "codes"]
    bound: int
    why: str


@dataclass(frozen=True)
class Definition:
    """One vector before it is stored.

    Attributes:
        op: name of the operation.
        key: the part of the id after the operation: three digits, or the recording's own id.
            Never renumbered, never used again for other inputs.
        comment: what the case shows and how its outputs are derived.
        inputs: tensors.
        outputs: expected tensors; None only for origin "reference".
        attributes: what is not a tensor.
        flags: keys of notes.json: what breaks in service if a kernel fails here.
        requirements: ids of the catalogue that lean on this case.
        source: where formula or numbers come from.
        numerics: profile.
        tolerance: output -> bound; bit-exact where absent.
    """

    op: str
    key: str
    comment: str
    inputs: Mapping[str, NDArray]
    outputs: Mapping[str, NDArray] | None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    source: str = ""
    numerics: str = "canonical"
    origin: Origin = "hand"
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.op.replace('_', '-')}-{self.key}"


def f32(*values: Any) -> NDArray[np.float32]:
    """One float32 array of the values."""
    return np.array(values[0] if len(values) == 1 else values, np.float32)


def bits32(*values: int) -> NDArray[np.float32]:
    """float32 numbers from their bits."""
    return np.array(values, np.uint32).view(np.float32)


def i8(*values: Any) -> NDArray[np.int8]:
    """One int8 array of the values."""
    return np.array(values[0] if len(values) == 1 else values, np.int8)


def i32(*values: Any) -> NDArray[np.int32]:
    """One int32 array of the values."""
    return np.array(values[0] if len(values) == 1 else values, np.int32)

"""W16A16SC: W16A16S with the weight compressed in tiles of bytes, for one tensor-parallel rank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .base import register
from .records import QuantizedLinear
from .w8a8sc import Tiled
from .w16a16s import W16A16S


@register
class W16A16SC(Tiled, W16A16S):
    """The same numbers as W16A16S; the float16 weight [n, k] is compressed as bytes [n, 2k].

    Source: formats.md 3.2 W16A16S / W16A16SC, 5.12 SC; seeds/000:18-34.
    """

    label = "W16A16SC"
    mode = "high"

    def from_sparse(self, q: QuantizedLinear) -> QuantizedLinear:
        """Return a W16A16S linear as this type. Raises: ValueError unless it is float16."""
        if q.weight.dtype != np.float16:
            raise ValueError(f"{q.name}.weight: found {q.weight.dtype}, expected float16")
        return replace(q, label=self.label)


def outdim(name: str, n: int) -> dict[str, int]:
    """Return the description entry that tells the engine n, which the stream does not.

    >>> outdim("model.layers.0.mlp.up_proj.weight", 256)
    {'model.layers.0.mlp.up_proj.weight.outdim': 256}

    Source: formats.md 2.2 `{X}.weight.outdim`; 5.12 SC-016, SC-017 for a bias.
    """
    return {f"{name}.outdim": n}

"""What the layers of a model share: weights by name, the linear, the observer.

A `Scope` stands for one layer in use: it holds the layer's tensors while it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.numeric.arithmetic import MODEL_DTYPES

from .config import Architecture
from .loader import FloatLinear, Weights
from .norm import layer_norm, rms_norm, service_norm
from .numerics import Numerics


class Linear(Protocol):
    """y (t, n) of a linear from its name, input (t, k), stored weight and stored bias or None."""

    def __call__(self, name: str, x: NDArray, w: NDArray, b: NDArray | None) -> NDArray: ...


Observe = Callable[[str, NDArray], None]  # name of a linear, its input (t, k)
# name of an attention, its q (h, t, d), k and v (kv, t, d) after rotation -> the same, replaced
States = Callable[[str, NDArray, NDArray, NDArray], tuple[NDArray, NDArray, NDArray]]
# q (h, t, d), k (kv, s, d), v (kv, s, dv), scale, hidden (t, s) or None, numerics -> (t, h·dv)
Attend = Callable[[NDArray, NDArray, NDArray, float, NDArray | None, Numerics], NDArray]


@dataclass
class Scope:
    """One layer in use.

    Attributes:
        architecture, weights, numerics: of the model.
        linear_of: computes every linear; None for the float one.
        observe: sees the input of every linear before it is computed.
        states: sees q, k and v of every attention and may replace them.
        attend: computes every attention; None for the eager one.
        turns: dtype of the cosines and sines of rotary positions; None for that of the states.
        absorb: names of latent attentions whose queries meet the latent itself; None for none.
        own_norms: names of RMSNorms that the one-click service has put its own in the place of.
        routed: sees which tokens (rows of the input of the mixture) an expert is about to get.
    """

    architecture: Architecture
    weights: Weights
    numerics: Numerics
    linear_of: Linear | None = None
    observe: Observe | None = None
    states: States | None = None
    attend: Attend | None = None
    turns: np.dtype | None = None
    absorb: Callable[[str], bool] | None = None
    own_norms: Collection[str] = ()
    routed: Callable[[str, NDArray], None] | None = None
    _tensors: dict[str, NDArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._default = FloatLinear(self.numerics)

    def numerics_of(self, x: NDArray) -> Numerics:
        """The dtype policy of steps on x: behind a float32 module they are float32 too."""
        return replace(self.numerics, dtype=x.dtype)

    def linear(self, name: str, x: NDArray, n: int, bias: bool = False) -> NDArray:
        """Observe x, then compute the linear `name`.

        Args: name of the module; x (t, k) of T; n output columns; bias: there must be one.
        Returns: (t, n) of T.
        Raises: CheckpointError: a tensor is missing or misshapen.
        """
        w = self._kept(f"{name}.weight")
        if self.linear_of is None or w.dtype in MODEL_DTYPES:
            self.weights.check(f"{name}.weight", w, (n, x.shape[-1]))
        has_bias = bias or f"{name}.bias" in self.weights
        b = self._kept(f"{name}.bias") if has_bias else None
        if self.observe is not None:
            self.observe(name, x)
        return (self.linear_of or self._default)(name, x, w, b)

    def parameter(self, name: str, shape: tuple[int, ...]) -> NDArray:
        """The tensor `name`, which must have that shape, rounded to T as a model is loaded."""
        return self.numerics.round(self.weights.float(name, shape))

    def rms_norm(self, name: str, x: NDArray, eps: float | None = None) -> NDArray:
        """RMSNorm `name` over the last axis, with a bias if the checkpoint has one."""
        k = (x.shape[-1],)
        if name in self.own_norms:
            bias = self.weights.float(f"{name}.bias", k) if f"{name}.bias" in self.weights else None
            return service_norm(x, self.weights.float(f"{name}.weight", k), bias)
        bias = self.parameter(f"{name}.bias", k) if f"{name}.bias" in self.weights else None
        eps = self.architecture.eps if eps is None else eps
        return rms_norm(x, self.parameter(f"{name}.weight", k), eps, bias)

    def layer_norm(self, name: str, x: NDArray) -> NDArray:
        """LayerNorm `name` over the last axis."""
        k = (x.shape[-1],)
        weight, bias = (self.parameter(f"{name}.{part}", k) for part in ("weight", "bias"))
        return layer_norm(x, weight, bias, self.architecture.eps)

    def embedding(self, name: str, ids: NDArray) -> NDArray:
        """Rows of the table `name`, rounded to the model dtype. Args: ids (t,). Returns: (t, k).

        Raises:
            CheckpointError: the table is missing or misshapen, or an id is no row of it.
        """
        table = self.weights.float(f"{name}.weight", (-1, self.architecture.hidden))
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < table.shape[0]:
            found = f"ids from {ids.min()} to {ids.max()}"
            raise CheckpointError(f"{name}: found {found}, expected 0 to {table.shape[0] - 1}")
        return self.numerics.round(table[ids])

    def alias(self, name: str, other: str) -> None:
        """Let the tensor `name` be the tensor `other` in this scope."""
        self._tensors[name] = self.weights.stored(other)

    def _kept(self, name: str) -> NDArray:
        if name not in self._tensors:
            self._tensors[name] = self.weights.stored(name)
        return self._tensors[name]

"""Quantized attention: what hangs on an attention module instead of on one linear.

    calibration batches -> quantize -> QuantizedAttention -> tensors -> files
    files -> from_tensors -> QuantizedAttention -> forward -> the attention it stands for

Which tensors exist in a producer profile, and with which dtype, is read from `schemas/layouts`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from numpy.typing import NDArray

from slimspec import layout
from slimspec.quantize.affine import Variant

from .loading import load_all
from .store import encode

Batches = Mapping[str, Sequence[NDArray]]  # what was observed in each calibration step, by role


@dataclass(frozen=True)
class QuantizedAttention:
    """The tensors of one attention module by suffix, as `k_proj.kv_cache_scale`."""

    label: str
    values: Mapping[str, NDArray]
    name: str = "attention"

    def need(self, suffix: str) -> NDArray:
        """Return a tensor that must be there. Raises: ValueError naming it."""
        if suffix not in self.values:
            raise ValueError(f"{self.name}: {self.label} has no {suffix}")
        return self.values[suffix]


class AttentionScheme(ABC):
    """One way to quantize attention; subclasses set `label` and `roles`."""

    label: str
    roles: tuple[str, ...]

    @abstractmethod
    def quantize(
        self, batches: Batches, *, variant: Variant, name: str = "attention"
    ) -> QuantizedAttention:
        """Return the parameters that calibration gives. Raises: ValueError for a missing role."""

    @abstractmethod
    def forward(self, a: QuantizedAttention, q: NDArray, k: NDArray, v: NDArray) -> NDArray:
        """Return softmax(q kᵀ / √d) v with quantized operands.

        Args: q [h, t, d]; k [kv, s, d]; v [kv, s, dv], one float dtype. Returns: [h, t, dv].
        """

    def tensors(self, a: QuantizedAttention, profile: str, model_dtype: str) -> dict[str, NDArray]:
        """Return suffix -> array: exactly the tensors that a producer profile writes.

        Raises: LayoutError if the profile does not write this type; ValueError if a required
            tensor is missing.
        """
        written = {}
        for suffix, rule in layout.load(self.label).rules(profile).items():
            if suffix in a.values or rule.presence == "required":
                written[suffix] = encode(a.need(suffix), suffix, rule, model_dtype)
        return written

    def from_tensors(
        self, tensors: Mapping[str, NDArray], profile: str, name: str = "attention"
    ) -> QuantizedAttention:
        """Read the tensors of one module back; suffixes the type does not have are ignored.

        Raises: ValueError naming a required tensor that is missing.
        """
        rules = layout.load(self.label).rules(profile)
        found = {suffix: tensors[suffix] for suffix in rules if suffix in tensors}
        missing = [s for s, rule in rules.items() if rule.presence == "required" and s not in found]
        if missing:
            raise ValueError(f"{name}: {self.label} needs {missing[0]} in profile {profile}")
        return QuantizedAttention(self.label, found, name)

    def _check_roles(self, batches: Batches, required: Sequence[str], name: str) -> None:
        unknown = sorted(batches.keys() - set(self.roles))
        if unknown:
            raise ValueError(f"{name}: {self.label} has no {unknown[0]}, only {self.roles}")
        for role in required:
            if not batches.get(role):
                raise ValueError(f"{name}: no calibration batch for {role}")


_REGISTER: dict[str, AttentionScheme] = {}

AttentionType = TypeVar("AttentionType", bound=type[AttentionScheme])


def register_attention(scheme: AttentionType) -> AttentionType:
    """Add a scheme under its label (class decorator). Raises: ValueError for a second one."""
    if scheme.label in _REGISTER:
        raise ValueError(f"two attention schemes are labelled {scheme.label!r}")
    _REGISTER[scheme.label] = scheme()
    return scheme


def attention_schemes() -> Mapping[str, AttentionScheme]:
    """Return label -> scheme, of all."""
    load_all()
    return MappingProxyType(_REGISTER)

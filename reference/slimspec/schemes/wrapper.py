"""A scheme around another scheme: the label is derived and some float tensors are added."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from slimspec.layout import TensorRule

from .base import Scheme
from .records import Linear, Options, QuantizedLinear


class Wrapper(Scheme):
    """Changes the weight before `inner` quantizes it and the input before `inner` multiplies it.

    `parts` are the added tensors by suffix; they come from training and must be given. Options,
    ranges and input parameters are those of `inner`, whose input is the changed one.
    Source: formats.md 2.3 (derived labels); schemas/derivations.json.
    """

    required: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(self, inner: Scheme, label: str) -> None:
        self.inner = inner
        self.label = label
        self.bits = inner.bits
        self.takes = inner.takes
        self.methods = inner.methods

    @property
    def core(self) -> Scheme:
        return self.inner

    @abstractmethod
    def change_weight(self, w: NDArray, parts: Mapping[str, NDArray]) -> NDArray:
        """Return the weight that `inner` quantizes, [n, k] in the dtype of w."""

    @abstractmethod
    def restore_weight(self, w: NDArray[np.float32], q: QuantizedLinear) -> NDArray[np.float32]:
        """Undo `change_weight` on a dequantized weight, float32 [n, k]."""

    def quantize(
        self, linear: Linear, *, parts: Mapping[str, NDArray] | None = None, **options: Any
    ) -> QuantizedLinear:
        """Quantize the changed weight as `inner` does; see `Scheme.quantize` for `options`.

        Args: parts: suffix -> tensor, float32, float16 or bfloat16.
        Raises: ValueError for a missing or unknown part, and as `inner`.
        """
        given = self._check_parts(parts or {}, linear.name)
        changed = replace(linear, weight=self.change_weight(linear.weight, given))
        return self.wrap(self.inner.quantize(changed, **options), given)

    def wrap(self, inner: QuantizedLinear, parts: Mapping[str, Any]) -> QuantizedLinear:
        """Return a record of `inner` under the derived label, with `parts` added."""
        return replace(inner, label=self.label, **parts)

    def assemble(self, linear: Linear, weight: Any, options: Options) -> QuantizedLinear:
        """Return the record of `inner` under the derived label; `wrap` adds the parts."""
        return self.wrap(self.inner.assemble(linear, weight, options), {})

    def dequantize(self, q: QuantizedLinear) -> NDArray[np.float32]:
        """Return the float weight that the whole linear stands for, float32 [n, k]."""
        return self.restore_weight(self.inner.dequantize(self.unwrap(q)), q)

    def unwrap(self, q: QuantizedLinear) -> QuantizedLinear:
        """Return the record of `inner`."""
        return replace(q, label=self.inner.label)

    def pack(self, q: QuantizedLinear, suffix: str, rule: TensorRule) -> NDArray:
        """Return an array of `inner` as it stores it; the parts as they are."""
        own = suffix in (*self.required, *self.optional)
        return q.need(suffix) if own else self.inner.pack(q, suffix, rule)

    def unpack(self, weight: NDArray, tensors: Mapping[str, NDArray], rule: TensorRule) -> NDArray:
        """Undo `pack` for the weight."""
        return self.inner.unpack(weight, tensors, rule)

    def _check_parts(self, parts: Mapping[str, NDArray], name: str) -> dict[str, NDArray]:
        missing = [suffix for suffix in self.required if suffix not in parts]
        if missing:
            raise ValueError(f"{name}: {self.label} needs {', '.join(missing)}")
        unknown = sorted(parts.keys() - {*self.required, *self.optional})
        if unknown:
            raise ValueError(f"{name}: {self.label} has no {', '.join(unknown)}")
        return dict(parts)

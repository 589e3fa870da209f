"""W8A8SC: W8A8S with the weight compressed in tiles, for one tensor-parallel rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slimspec import layout, sparse
from slimspec.layout import TensorRule
from slimspec.numeric import as_float32, to_dtype
from slimspec.numeric.deq_word import decode_deq_scale
from slimspec.sparse.codebook import ModeName

from .base import Scheme, register
from .records import QuantizedLinear
from .store import encode
from .w8a8s import W8A8S

TILES = ("weight", "index", "info")


def narrow_scale(scale: NDArray) -> NDArray[np.float16]:
    """Return input_scale as float16, rounded once. Raises: ValueError if that is 0 or infinite.

    Source: formats.md 4.2 D16; seeds/001:743-803.
    """
    narrow: NDArray[np.float16] = to_dtype(scale, np.float16)
    if not np.isfinite(narrow).all() or not narrow.all():
        raise ValueError(f"found {scale.reshape(-1)[0]}, expected a scale that float16 can hold")
    return narrow


def narrow_offset(offset: NDArray) -> NDArray[np.int8]:
    """Return the integer-valued input_offset as int8. Raises: ValueError if it is none.

    Source: formats.md 4.2 D15; seeds/001:743-803.
    """
    if offset.dtype == np.int8:
        return offset
    wide = as_float32(offset)
    if not ((wide == np.rint(wide)) & (np.abs(wide + np.float32(0.5)) < np.float32(128))).all():
        raise ValueError(f"found {wide.reshape(-1)[0]}, expected an integer in [-128, 127]")
    return wide.astype(np.int8)


class Tiled(Scheme):
    """What compressed types share: `weight` is a matrix in memory, three tensors in the files."""

    mode: ModeName

    def tensors(self, q: QuantizedLinear, profile: str, model_dtype: str) -> dict[str, NDArray]:
        """Return suffix -> array, the tiles first."""
        tiles = sparse.compress(np.ascontiguousarray(q.weight), self.mode)
        written: dict[str, NDArray] = {suffix: getattr(tiles, suffix) for suffix in TILES}
        for suffix, rule in self._beside(profile):
            if rule.presence == "required" or getattr(q, suffix) is not None:
                written[suffix] = encode(q.need(suffix), suffix, rule, model_dtype)
        return written

    def from_tensors(
        self, tensors: Mapping[str, NDArray], profile: str, name: str = "linear"
    ) -> QuantizedLinear:
        """Read the tensors back. Raises: ValueError for a missing tensor or a broken stream."""
        needed = [suffix for suffix, rule in self._beside(profile) if rule.presence == "required"]
        for suffix in (*TILES, *needed):
            if suffix not in tensors:
                raise ValueError(f"{name}: {self.label} needs {suffix} in profile {profile}")
        values = {s: tensors[s] for s, _ in self._beside(profile) if s in tensors}
        if "deq_scale" in values:
            values["deq_scale"] = decode_deq_scale(values["deq_scale"])
        try:
            decoded = sparse.decompress(
                tensors["weight"], tensors["index"], tensors["info"], self.mode
            )
        except sparse.StreamError as error:
            raise ValueError(f"{name}.weight: {error}") from None
        weight = sparse.as_float16(decoded) if self.mode == "high" else decoded
        return QuantizedLinear(self.label, weight, name=name, **values)

    def _beside(self, profile: str) -> Iterator[tuple[str, TensorRule]]:
        rules = layout.rules(self.label, profile)
        return ((s, rule) for s, rule in rules.items() if s not in TILES)


@register
class W8A8SC(Tiled, W8A8S):
    """The same numbers as W8A8S.

    Source: formats.md 3.2 W8A8S / W8A8SC, 5.12 SC; sparse_codec.md.
    """

    label = "W8A8SC"
    mode = "low"

    def from_sparse(self, q: QuantizedLinear) -> QuantizedLinear:
        """Return a W8A8S linear as this type: float16 input_scale, int8 input_offset.

        Raises: ValueError where these dtypes cannot hold the value.
        """
        return replace(
            q,
            label=self.label,
            input_scale=narrow_scale(q.need("input_scale")),
            input_offset=narrow_offset(q.need("input_offset")),
        )

"""The worked example: the same four rows of weights, taken through one type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import layout, schemes
from slimspec.layout import profiles
from slimspec.numeric import model_dtype
from slimspec.patterns import visible
from slimspec.quantize.affine import Variant
from slimspec.schemes import Linear, QuantizedLinear, Scheme
from slimspec.schemes.mx import MxScheme
from slimspec.schemes.w8a8sc import W8A8SC, Tiled

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_NAME = "model.layers.0.mlp.up_proj"
_COLUMNS = 8
_WIDE = 64  # columns for types that share a scale among 32 of them
_GROUP = 32
_ROWS = (
    (0.52, -1.27, 0.08, 0.31, -0.66, 0.94, 0.005, -0.12),  # fills its range: scale 0.01 in int8
    (0.013, 0.021, -0.017, 0.0, 0.03, -0.0254, 0.009, -0.004),  # small numbers
    (0.2, -0.1, 0.15, 5.08, -0.05, 0.25, -0.3, 0.1),  # an outlier takes the codes of the others
    (0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.635),  # one sign: a symmetric type wastes half its codes
)
_BIAS = (0.5, -0.25, 0.0, 1.0)
_INPUT = (
    (1.0, -0.5, 0.25, 0.75, -1.0, 0.5, 2.0, 3.0),
    (0.1, 0.2, -0.3, 0.4, -0.5, 0.6, -0.7, 0.8),
)


@dataclass(frozen=True)
class Example:
    """One linear before and after: x [2, k], `q` the record, `stored` suffix -> array in the file.

    `profile` is the producer that stores it, `variant` its formulas, `options` what the scheme was
    asked for beside its defaults. `restored` float32 [n, k] is what the codes stand for; `exact`
    and `y` [2, n] are the products with the float and the quantized linear.
    """

    scheme: Scheme
    profile: str
    variant: Variant
    dtype: str
    linear: Linear
    options: dict[str, Any]
    q: QuantizedLinear
    stored: dict[str, NDArray]
    restored: NDArray[np.float32]
    x: NDArray
    exact: NDArray[np.float64]
    y: NDArray

    @property
    def lossless(self) -> bool:
        """Whether every weight comes back as it was."""
        return bool((self.restored == self.linear.weight.astype(np.float32)).all())

    @property
    def codes(self) -> NDArray[np.float32]:
        """The quantized elements as numbers, [n, k]: integers, or values of the small float."""
        if isinstance(self.scheme, MxScheme):
            return self.scheme.element_values(self.q.weight)
        return self.q.weight.astype(np.float32)


def types() -> tuple[str, ...]:
    """Return the labels that can be worked: every type of a linear that does more than copy it."""
    return tuple(sorted(label for label in schemes.schemes() if label != "FLOAT"))


def writers(label: str) -> tuple[str, ...]:
    """Return the producer profiles with formulas of their own that write a type."""
    return tuple(p for p in layout.load(label).profiles if profiles.profile(p).formula)


def work(label: str, profile: str = "", dtype: str = "") -> Example:
    """Take the example through one type.

    Args: label one of `types()`; profile one of `writers(label)`, "" is the newest; dtype of the
        float model: float32, float16 or bfloat16; "" is float32, float16 for compressed types.
    Raises: ValueError for another label, profile or dtype.
    """
    if label not in types():
        raise ValueError(f"expected one of {', '.join(types())}; found {visible(label)}")
    scheme = schemes.get(label)
    dtype = dtype or ("float16" if isinstance(scheme, Tiled) else "float32")
    if dtype not in DTYPES:
        raise ValueError(f"expected one of {', '.join(DTYPES)}; found {visible(dtype)}")
    by = writers(label)
    newest = "A1" if "A1" in by else by[-1]
    if profile and profile not in by:
        raise ValueError(
            f"{label}: expected a profile of {', '.join(by)}; found {visible(profile)}"
        )
    return _work(scheme, profile or newest, dtype)


def _work(scheme: Scheme, profile: str, dtype: str) -> Example:
    variant: Variant = "v0" if profiles.profile(profile).formula == "v0" else "v1"
    options = _options(scheme, variant)
    k = _columns(scheme, options)
    kind = model_dtype(dtype)
    linear = Linear(_spread(_ROWS, k).astype(kind), np.array(_BIAS, kind), _NAME)
    x = _spread(_INPUT, k).astype(kind)
    if "activation_range" in scheme.takes:
        options["activation_range"] = (x.min(), x.max())
    q = scheme.quantize(linear, variant=variant, **options)
    if isinstance(scheme, W8A8SC):
        q = scheme.from_sparse(q)
    exact = x.astype(np.float64) @ linear.weight.astype(np.float64).T + np.array(_BIAS)
    return Example(
        scheme, profile, variant, dtype, linear, options, q,
        stored=scheme.tensors(q, profile, DTYPES[dtype]),
        restored=scheme.dequantize(q), x=x, exact=exact, y=scheme.forward(q, x),
    )  # fmt: skip


def _options(scheme: Scheme, variant: Variant) -> dict[str, Any]:
    """The options without which a type is not what its name says."""
    if scheme.label == "W4A8_DYNAMIC" and variant == "v0":
        return {"group_size": _GROUP}
    return {"dual_block": _GROUP} if "dual_block" in scheme.takes else {}


def _columns(scheme: Scheme, options: dict[str, Any]) -> int:
    return _WIDE if options or isinstance(scheme, MxScheme) else _COLUMNS


def _spread(rows: tuple[tuple[float, ...], ...], k: int) -> NDArray[np.float64]:
    """Repeat the rows up to k columns, each block of 32 half as large as the one before."""
    tiled = np.tile(np.array(rows), k // _COLUMNS)
    return tiled / 2.0 ** (np.arange(k) // _GROUP)

"""Min-max weight quantization per channel, per tensor or per group, in the dtype of the model.

Three steps: extrema, parameters, integers. The first and the last have a plain form, which is the
definition, and a compiled one for large weights with the same bits (`minmax_kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, model_dtype, to_dtype

from .affine import Variant, code_range, group_view, qparams, quantize, require_finite

Granularity = Literal["channel", "tensor", "group"]

_FAST_FROM = 1 << 16  # elements; below, loading the kernels costs more than it saves


@dataclass(frozen=True)
class IntegerWeight:
    """q int8 [n, k]; scale and offset [n, 1], [1] or [n, k/g]."""

    q: NDArray[np.int8]
    scale: NDArray
    offset: NDArray


def quantize_minmax(
    w: NDArray,
    *,
    bits: int = 8,
    symmetric: bool = True,
    variant: Variant,
    granularity: Granularity = "channel",
    group_size: int = 0,
    max_bound: int | None = None,
    name: str = "weight",
    threads: int = 1,
) -> IntegerWeight:
    """Quantize a weight from the extrema of its rows, of its groups, or of the whole of it.

    scale, offset = qparams(min, max);  q = clip(round_half_even(w / scale + offset))

    Args:
        w: [n, k] float32, float16 or bfloat16, k >= 1.
        granularity: "channel" gives scale [n, 1], "tensor" (mm_tensor) [1], "group" [n, k/g].
        group_size: divides k; used for "group" only.
        max_bound: clips q to ±max_bound and sets the step count (math.md 1.5: "v0" stores
            symmetric weights with 2^(bits-1) - 1, "v1" with None).
        threads: never changes a bit.
    Returns: arithmetic and parameters in the dtype of `w`.
    Raises: ValueError for NaN or infinity (tensor and index) and for a group size that does not
        divide k; TypeError for other dtypes.
    Source: math.md 1.1-1.8, 3.1.
    """
    model_dtype(w.dtype)
    if w.ndim != 2 or w.shape[1] == 0:
        raise ValueError(f"{name}: expected a weight [n, k] with columns, found shape {w.shape}")
    groups = group_view(w, group_size if granularity == "group" else 0)  # (n, k // g, g)
    lo, hi = group_extrema(groups, name, threads)  # (n, k // g)
    if granularity == "tensor":
        lo, hi = (to_dtype(as_float32(f).reshape(1), w.dtype) for f in (_least(lo), _most(hi)))
    scale, offset = qparams(
        lo, hi, bits=bits, symmetric=symmetric, variant=variant, max_bound=max_bound, name=name
    )
    q = quantize_groups(groups, scale, offset, bits, max_bound, name, threads)
    return IntegerWeight(q.reshape(w.shape), scale, offset)


def _least(x: NDArray) -> NDArray:
    return np.asarray(as_float32(x).min(initial=0))


def _most(x: NDArray) -> NDArray:
    return np.asarray(as_float32(x).max(initial=0))


def group_extrema(groups: NDArray, name: str, threads: int = 1) -> tuple[NDArray, NDArray]:
    """Return the minimum and maximum of each group.

    Args: groups [n, k // g, g]. Returns: lo, hi [n, k // g], same dtype.
    Raises: ValueError naming the first NaN or infinity.
    """
    fast = _fast(groups)
    if fast:
        from .minmax_kernels import row_extrema

        flat = np.ascontiguousarray(groups).reshape(-1, groups.shape[2])
        lo, hi = (f.reshape(groups.shape[:2]) for f in row_extrema(flat, threads))
    else:
        wide = as_float32(groups)
        lo, hi = (to_dtype(f, groups.dtype) for f in (wide.min(axis=2), wide.max(axis=2)))
    if not (np.isfinite(as_float32(lo)).all() and np.isfinite(as_float32(hi)).all()):
        require_finite(groups.reshape(groups.shape[0], -1), name)
    return lo, hi


def quantize_groups(
    groups: NDArray,
    scale: NDArray,
    offset: NDArray,
    bits: int = 8,
    max_bound: int | None = None,
    name: str = "weight",
    threads: int = 1,
) -> NDArray[np.int8]:
    """Return the integers of each group with its own, or one common, scale and offset.

    Args: groups [n, k // g, g]; scale, offset [n, k // g], or [1]. Returns: int8 [n, k // g, g].
    Raises: as `affine.codes`. Source: math.md 1.4.
    """
    shape = groups.shape[:2]
    scale, offset = (np.broadcast_to(p, shape) for p in (scale, offset))
    if not _fast(groups) or scale.dtype != groups.dtype or not scale.all():
        return quantize(
            groups, scale[..., None], offset[..., None], bits=bits, max_bound=max_bound, name=name
        )
    from .minmax_kernels import encode_rows

    flat = np.ascontiguousarray(groups).reshape(-1, groups.shape[2])
    s, z = (np.ascontiguousarray(as_float32(p).reshape(-1)) for p in (scale, offset))
    return encode_rows(flat, s, z, *code_range(bits, max_bound), threads).reshape(groups.shape)


def _fast(groups: NDArray) -> bool:
    if groups.size < _FAST_FROM:
        return False
    from .minmax_kernels import available

    return available()

"""What goes into a scheme and what comes out: plain records of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import model_dtype
from slimspec.quantize.affine import Variant


@dataclass(frozen=True)
class Linear:
    """A float linear: weight [n, k] and bias [n] or None, float32, float16 or bfloat16.

    `name` appears in error messages and, for scale_bias, chooses a shape as the producers do.
    """

    weight: NDArray
    bias: NDArray | None = None
    name: str = "linear"

    def __post_init__(self) -> None:
        for what, array, ndim in (("weight", self.weight, 2), ("bias", self.bias, 1)):
            if array is None:
                continue
            model_dtype(array.dtype)
            if array.ndim != ndim or array.shape[0] != self.weight.shape[0]:
                raise ValueError(
                    f"{self.name}: {what} of shape {array.shape} beside weight {self.weight.shape}"
                )


@dataclass(frozen=True)
class InputParams:
    """Static activation parameters: scale [1] and integer-valued offset [1], in one float dtype."""

    scale: NDArray
    offset: NDArray


@dataclass(frozen=True)
class Options:
    """How to quantize one linear; see `Scheme.quantize`."""

    variant: Variant
    group_size: int = 0
    symmetric: bool = True
    per_tensor: bool = False
    activation_range: tuple[NDArray, NDArray] | None = None
    activation_symmetric: bool = False
    input_params: InputParams | None = None
    method: str = "minmax"
    error_dtype: DTypeLike | None = None
    dual_block: int = 0
    threads: int = 1


@dataclass(frozen=True)
class QuantizedLinear:
    """One quantized linear; a field is None where its type has no such tensor.

    Fields are named as the suffixes in the files and hold what the numbers mean, not how a profile
    stores them: integers unpacked, deq_scale as float32, scales in the dtype they were computed in.

    weight [n, k]: int8; float for FLOAT; float8_e4m3fn; or FP4 codes in uint8, one per byte.
    weight_scale, weight_offset [n, 1], [n, k/g] or [1]; of MX types E8M0 bytes [n, ceil(k/32)].
    weight_scale_second, weight_offset_second [n, k/g]; weight_dual_scale float32 [n, k/b, 1];
    scale_bias [n, 1], [n, 16] or [n, k]; input_scale, input_offset [1]; deq_scale float32 [n] or
    [1]; quant_bias int32 [n]; bias [n].
    Wrappers: left_trans [L, L], right_trans [R, R], clip_ratio [1]; svd_lowrank_l1 [r, k],
    svd_lowrank_l2 [n, r].
    """

    label: str
    weight: NDArray
    weight_scale: NDArray | None = None
    weight_offset: NDArray | None = None
    weight_scale_second: NDArray | None = None
    weight_offset_second: NDArray | None = None
    weight_dual_scale: NDArray[np.float32] | None = None
    scale_bias: NDArray | None = None
    input_scale: NDArray | None = None
    input_offset: NDArray | None = None
    deq_scale: NDArray[np.float32] | None = None
    quant_bias: NDArray[np.int32] | None = None
    bias: NDArray | None = None
    left_trans: NDArray | None = None
    right_trans: NDArray | None = None
    clip_ratio: NDArray | None = None
    svd_lowrank_l1: NDArray | None = None
    svd_lowrank_l2: NDArray | None = None
    name: str = "linear"

    def need(self, field: str) -> NDArray:
        """Return a field that must be there. Raises: ValueError naming it."""
        value: NDArray | None = getattr(self, field)
        if value is None:
            raise ValueError(f"{self.name}: {self.label} has no {field}")
        return value

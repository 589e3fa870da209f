"""The input parameters of one linear while calibration texts pass by.

A producer quantizes the input of a linear already while it collects: with the parameters of what
it has seen so far, this text included. Later linears see what comes of it.

Source: math.md 2.1 (V0), 2.7 (V1: quantisers return the fake-quantised input while collecting).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimspec import schemes
from slimspec.numeric import as_float32, to_dtype
from slimspec.numeric.arithmetic import BFLOAT16
from slimspec.observe.activation import HISTOGRAM
from slimspec.observe.histogram import HistogramObserver
from slimspec.observe.histogram_v1 import HistogramObserverV1
from slimspec.observe.minmax import float64_mean_of_extrema, mean_of_extrema, running_extrema
from slimspec.quantize.activation import activation_qparams
from slimspec.quantize.affine import codes, dequantize, qparams
from slimspec.quantize.fp8 import dequantize_fp8, fp8_scale, fp8_values
from slimspec.quantize.mx_blocks import dequantize_mx
from slimspec.schemes import InputParams
from slimspec.schemes.mx import MxScheme

from .settings import Settings


class RangeObserver(Protocol):
    """Sees batches, gives the range of all so far."""

    def update(self, x: NDArray) -> None: ...

    def range(self) -> tuple[NDArray, NDArray]: ...


class ExtremaObserver:
    """Minimum and maximum of each batch, joined by `join`."""

    def __init__(self, settings: Settings) -> None:
        if settings.variant == "v0":
            self._join = mean_of_extrema
        else:
            mean = settings.aggregation == "mean"
            self._join = float64_mean_of_extrema if mean else running_extrema
        self._ends: list[NDArray] = []

    def update(self, x: NDArray) -> None:
        """Add one batch, any shape."""
        wide = as_float32(x)
        self._ends.append(to_dtype(np.array([wide.min(), wide.max()], np.float32), x.dtype))

    def range(self) -> tuple[NDArray, NDArray]:
        """The range of the batches so far, 0-d each."""
        return self._join(self._ends)


def make_observer(settings: Settings, act_method: int) -> RangeObserver:
    """Return the observer of one linear. Args: act_method 1 or 2."""
    if act_method == HISTOGRAM:
        return HistogramObserver() if settings.variant == "v0" else HistogramObserverV1()
    return ExtremaObserver(settings)


class RunningInput:
    """Observes the inputs of one static linear.

    Attributes:
        name: of the linear.
        params: scale and offset after the last batch; None before the first.
    """

    def __init__(self, name: str, settings: Settings, act_method: int) -> None:
        self.name = name
        self.params: InputParams | None = None
        self._observer = make_observer(settings, act_method)
        self._settings = settings
        self._clamps = settings.variant == "v1" and act_method == HISTOGRAM

    def see(self, x: NDArray) -> InputParams:
        """Add one batch (t, k); return the parameters of all so far."""
        self._observer.update(x)
        lo, hi = self._observer.range()
        scale, offset = activation_qparams(
            lo,
            hi,
            symmetric=self._settings.act_symmetric,
            variant=self._settings.variant,
            name=f"{self.name} input",
        )
        if self._settings.variant == "v0" and x.dtype == BFLOAT16:
            scale, offset = to_dtype(scale, BFLOAT16), to_dtype(offset, BFLOAT16)
        self.params = InputParams(scale, offset)
        return self.params

    def fake(self, x: NDArray) -> NDArray:
        """Add one batch (t, k); return it quantized and brought back.

        The histogram quantizer of "v1" keeps what it returns within the range it found, as recorded
        runs show: the lowest code may stand for a value below the lowest input.
        """
        y = fake_input(x, self.see(x), f"{self.name} input")
        if not self._clamps:
            return y
        lo, hi = (as_float32(end) for end in self._observer.range())
        return to_dtype(np.clip(as_float32(y), lo, hi), x.dtype)


def fake_input(x: NDArray, params: InputParams, name: str = "input") -> NDArray:
    """Quantize and bring back. Args: x (t, k). Returns: same shape and dtype."""
    wide = codes(x, params.scale, params.offset, name=name)
    return to_dtype(dequantize(wide, params.scale, params.offset), x.dtype)


def fake_axis(x: NDArray, axis: int) -> NDArray:
    """Quantize symmetrically with a scale for each row (axis 1) or column (axis 0) of x (t, k)."""
    lo, hi = x.min(axis=axis, keepdims=True), x.max(axis=axis, keepdims=True)
    scale, offset = qparams(lo, hi, symmetric=True, variant="v1")
    return fake_input(x, InputParams(scale, offset))


def fake_fp8(x: NDArray, axis: int | None) -> NDArray:
    """Divide by the scale of FP8 and multiply again: a run does not round to E4M3 in between.

    Args: axis: 0 for a scale for each column, 1 for each row, None for one.
    Source: math.md 12; msmodelslim ir/w8a8_fp_dynamic.py:60-70 (deployed: along axis 0),
    core/quantizer/impl/minmax.py (ActPerTokenMinmax: one range); measured: the values between are
    no values of E4M3, those of weights neither.
    """
    scale = fp8_scale(np.abs(x).max(axis=axis, keepdims=True))
    return to_dtype(dequantize_fp8(fp8_values(x, scale), scale), x.dtype)


def fake_blocks(x: NDArray, label: str) -> NDArray:
    """Round to the elements of an MX type in its blocks of columns, and bring back."""
    core = schemes.get(label).core
    assert isinstance(core, MxScheme)
    return to_dtype(dequantize_mx(core.quantize_input(x)), x.dtype)


def fake_tokens(x: NDArray) -> NDArray:
    """What a run of "v1" does to an input that engines quantize per token.

    One symmetric range serves all tokens of the batch (math.md 2.7), which shows in no file.
    """
    lo, hi = x.min().reshape(1), x.max().reshape(1)
    scale, offset = qparams(lo, hi, symmetric=True, variant="v1")
    return fake_input(x, InputParams(scale, offset))

"""Static activation ranges by the field's parameters act_method, use_sigma, sigma_factor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from numpy.typing import NDArray

from .minmax import mean_of_extrema
from .sensitivity import range_parm
from .sigma import DEFAULT_FACTOR, clip_to_sigma

MIN_MAX, HISTOGRAM, MIXED = 1, 2, 3
HISTOGRAM_UP_TO = 50.0  # range_parm


def choose_method(batches: Sequence[NDArray], act_method: int) -> int:
    """Return 1 (min-max) or 2 (histogram); 3 decides by the data.

    act_method 3: histogram where range_parm <= 50, else min-max.
    Args: batches of one linear's input; act_method 1, 2 or 3. Raises: ValueError for others.
    Source: math.md 2.3 (quant_modules.py:95-108).
    """
    if act_method in (MIN_MAX, HISTOGRAM):
        return act_method
    if act_method != MIXED:
        raise ValueError(f"act_method: expected 1, 2 or 3, found {act_method}")
    return HISTOGRAM if range_parm(batches) <= HISTOGRAM_UP_TO else MIN_MAX


def activation_range(
    batches: Iterable[NDArray],
    *,
    act_method: int = 1,
    use_sigma: bool = False,
    sigma_factor: float = DEFAULT_FACTOR,
) -> tuple[NDArray, NDArray]:
    """Return the calibrated (min, max) of one linear's input, as the Calibrator API (V0) finds it.

    1: mean over the batches of their extremes; 2: clip of the histogram of all batches; 3: one of
    the two (`choose_method`). use_sigma first clips each batch to ±sigma_factor·std(|x|): an option
    of ours, the producer applies sigma to weights only.
    Args: batches, each [..., k] float32/float16/bfloat16; act_method 1, 2 or 3; sigma_factor 3..4.
    Returns: lo, hi, 0-d; dtype of the batches, float32 from the histogram.
    Raises: ValueError for no batch, an empty batch, NaN or Inf in a histogram, or a bad parameter.
    Source: math.md 2.1-2.3; seeds 001 (act_method, use_sigma, sigma_factor).
    """
    arrays = list(batches)
    method = choose_method(arrays, act_method)
    if use_sigma:
        arrays = [clip_to_sigma(x, sigma_factor) for x in arrays]
    if method == MIN_MAX:
        return mean_of_extrema(arrays)
    from .histogram import HistogramObserver

    observer = HistogramObserver()
    for x in arrays:
        observer.update(x)
    return observer.range()


def token_range(x: NDArray) -> tuple[NDArray, NDArray]:
    """Return min and max of every token, as dynamic quantization sees them at run time.

    Args: x [..., k]. Returns: lo, hi [..., 1], dtype of x. Source: math.md 1.6 (per-token).
    """
    return x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)

"""Oracle folders of the observers: folder name -> routine of ours on the recorded inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from slimspec.observe.fa_amp import outlier_score
from slimspec.observe.histogram import HistogramObserver
from slimspec.observe.histogram_v1 import HistogramObserverV1
from slimspec.observe.minmax import mean_of_extrema
from slimspec.observe.per_head import PerHeadObserver, per_head_qparams
from slimspec.observe.recall_window import recall_window
from slimspec.smooth.fake_quant import row_codes

Case = dict[str, Any]
Tensors = Mapping[str, np.ndarray]
Outputs = dict[str, Any]


def _input(case: Case, tensors: Tensors, name: str) -> np.ndarray:
    return tensors[case["in"][name]["tensor"]]


def _inputs(case: Case, tensors: Tensors, name: str) -> list[np.ndarray]:
    return [tensors[item["tensor"]] for item in case["in"][name]["list"]]


def legacy_observers(case: Case, tensors: Tensors) -> Outputs:
    batches = _inputs(case, tensors, "xs")
    out: Outputs = {}
    observer = HistogramObserver()
    for i, batch in enumerate(batches):
        if case["params"]["cls"] == "HistogramObserver":
            observer.update(batch)
            low, high = observer.range()
        else:
            low, high = mean_of_extrema(batches[: i + 1])
        out[f"min{i}"], out[f"max{i}"] = low, high
    return out


def v1_histogram(case: Case, tensors: Tensors) -> Outputs:
    """The recorder kept the observer's own range by reference: min0 and max0 show the end state."""
    observer = HistogramObserverV1()
    out: Outputs = {}
    for i, name in enumerate(("x", "x2")):
        observer.update(_input(case, tensors, name))
        low, high = observer.range()
        out[f"clip_min{i}"], out[f"clip_max{i}"] = low, high
        out[f"hist{i}"] = observer.counts
    for i in range(2):
        out[f"min{i}"], out[f"max{i}"] = np.asarray(observer.low), np.asarray(observer.high)
    return out


def v1_recall_window(case: Case, tensors: Tensors) -> Outputs:
    low, high = recall_window(_input(case, tensors, "x"), case["params"]["ratio"])
    return {"left": low, "right": high}


def v1_fa3_per_head(case: Case, tensors: Tensors) -> Outputs:
    observer = PerHeadObserver(case["params"]["ratio"])
    for batch in _inputs(case, tensors, "xs"):
        observer.update(batch)
    low, high = observer.range()
    scale, offset = per_head_qparams(low, high, case["params"]["q_dtype"])
    return {"min": low, "max": high, "scale": scale, "offset": offset}


def legacy_quant_misc(case: Case, tensors: Tensors) -> Outputs:
    if case["params"]["fn"] == "get_outlier":
        score, share = outlier_score(_input(case, tensors, "X"))
        return {"out": [score, share]}
    q, scale = row_codes(_input(case, tensors, "x"), case["params"]["num_bits"])
    return {"out": [scale, q, np.zeros((), scale.dtype)]}


VECTORS: dict[str, Callable[[Case, Tensors], Outputs]] = {
    "legacy_observers": legacy_observers,
    "legacy_quant_misc": legacy_quant_misc,
    "v1_HistogramObserver": v1_histogram,
    "v1_fa3_per_head": v1_fa3_per_head,
    "v1_recall_window": v1_recall_window,
}


def _unsigned_zero(x: np.ndarray) -> np.ndarray:
    """Windows may start at -0 or 0: torch.sort is not stable and orders equal values freely."""
    return x + x.dtype.type(0)


DECODE = {"v1_recall_window": {"left": _unsigned_zero, "right": _unsigned_zero}}

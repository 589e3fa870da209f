"""Recorded sparse checkpoints are made again from float model, recipe and captured inputs.

W8A8S is float32 elementwise arithmetic: every integer and scale is the recorded one. W16A16S solves
in float32 with products and an inverse whose order is the library's: nearly every bit is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle_replay import find_cases
from oracle_replay.case import Case, Output

from slimspec.numeric import as_float32, mul, to_dtype
from slimspec.quantize.minmax import IntegerWeight
from slimspec.sparse import compress, decompress
from slimspec.sparse.admm import InputStatistics, w16a16s_weight
from slimspec.sparse.cosparse import quantize_cosparse
from slimspec.sparse.lowbit import LowBitOptions, w8a8s_weight

LOWBIT_FIELDS = ("open_outlier", "use_sigma", "sigma_factor", "fraction")


def sparse_linears(oracle: Path, label: str) -> Iterator[tuple[Case, Output, str]]:
    """Yield every linear whose weight has the label and whose float weight is at hand."""
    for path in find_cases(oracle):
        case = Case(path)
        for output in case.outputs:
            for name, found in output.labels.items():
                if found == label and name.endswith(".weight") and name in case.model:
                    yield case, output, name.removesuffix(".weight")


def w8a8s(case: Case, name: str) -> IntegerWeight:
    """Return the weight by the recipe; co-sparse keeps its scale in the dtype of the model."""
    q: dict[str, Any] = case.recipe["q"]
    w, per_channel = case.model[f"{name}.weight"], not q.get("mm_tensor", True)
    if q.get("is_lowbit"):
        options = {field: q[field] for field in LOWBIT_FIELDS if field in q}
        return w8a8s_weight(w, LowBitOptions(per_channel=per_channel, **options))
    made = quantize_cosparse(w, q.get("fraction", 0.01), per_channel=per_channel)
    scale = to_dtype(made.scale, w.dtype)
    return IntegerWeight(made.q, scale, np.zeros_like(scale))


def test_w8a8s_weights_and_scales_are_the_recorded_ones(oracle: Path) -> None:
    count = 0
    for case, output, name in sparse_linears(oracle, "W8A8S"):
        made, where = w8a8s(case, name), f"{case.name}: {name}"
        assert np.array_equal(made.q, output.tensors[f"{name}.weight"]), where
        input_scale = output.tensors[f"{name}.input_scale"]
        dtype = np.result_type(input_scale, made.scale)
        deq = as_float32(mul(input_scale, made.scale.reshape(-1), dtype))
        recorded = output.tensors[f"{name}.deq_scale"]
        assert np.array_equal(deq.view(np.uint32).astype(np.int64), recorded), where
        count += 1
    if not count:
        pytest.skip("no recorded W8A8S checkpoint")


def test_w16a16s_weights_are_the_recorded_ones(oracle: Path) -> None:
    count = different = size = 0
    for case, output, name in sparse_linears(oracle, "W16A16S"):
        step = next(step for step in case.steps if step["type"] == "float_sparse")
        w = case.model[f"{name}.weight"]
        statistics = InputStatistics(w.shape[1])
        for reference in case.linear(name)["inputs"]:
            x = case.resolve(reference)
            if x is None:
                break
            statistics.add(x)
        else:
            made = w16a16s_weight(w, statistics, step["sparse_ratio"])
            recorded = output.tensors[f"{name}.weight"]
            assert made.dtype == recorded.dtype
            zeros = int(w.size * step["sparse_ratio"])
            assert (made == 0).sum() >= zeros <= (recorded == 0).sum()
            different += int((made != recorded).sum())
            size += recorded.size
            count += 1
    if not count:
        pytest.skip("no recorded W16A16S checkpoint with its inputs")
    # A weight that moves over a rounding boundary of its two mantissa bits differs.
    assert different <= 0.002 * size


@pytest.mark.parametrize(("label", "mode"), [("W8A8S", "low"), ("W16A16S", "high")])
def test_recorded_sparse_weights_survive_the_tile_codec(
    oracle: Path, label: str, mode: Any
) -> None:
    count = 0
    for case, output, name in sparse_linears(oracle, label):
        weight = output.tensors[f"{name}.weight"].view(np.int8)
        stream = compress(weight, mode)
        decoded = decompress(stream.weight, stream.index, stream.info)
        assert np.array_equal(decoded, weight), f"{case.name}: {name}"
        count += 1
    if not count:
        pytest.skip(f"no recorded {label} checkpoint")

"""Smoothing recorded inside real runs: statistics in, the very weights that were stored out.

A run of the Calibrator API records each call of its anti-outlier methods (`anti_calls`), a run of
`msmodelslim quant` each smoothed subgraph (`smooth`), with the tensors before and after. Calls of
which a tensor was not kept are left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle_replay import Case
from oracle_replay.case import Tensors

from slimspec.model import Numerics
from slimspec.numeric import to_dtype
from slimspec.quantize.awq import linear_loss, mean_magnitude, search_awq
from slimspec.smooth.flex import FlexLoss, search_alpha_beta
from slimspec.smooth.fold import Affine, fold_consumer, fold_norm, fold_producer, value_rows_scale
from slimspec.smooth.outlier_mask import mask_scale
from slimspec.smooth.outlier_suppression import Statistics, search_scale
from slimspec.smooth.scales import (
    grouped_max_scale,
    grouped_mean,
    signed_weight_scale,
    smooth_scale,
    weight_scale,
)
from slimspec.smooth.suppression_loss import OutputLoss

Weights = Mapping[str, NDArray]
Found = dict[str, NDArray]


class NotKeptError(Exception):
    """A tensor of this call was too large to be kept."""


class Recording:
    """Resolves the tensor names of one run, those that point into its output included."""

    def __init__(self, path: Path) -> None:
        self.case = Case(path)
        self._output = Tensors(sorted((path / "quant").rglob("*.safetensors")))

    def tensor(self, reference: str | None) -> NDArray:
        found = self.case.resolve(reference)
        if found is None and reference:
            alias = self.case.capture.get("aliases", {}).get(reference, reference)
            match = re.fullmatch(r"quant:(\S+?)(?:@\w+)?", alias)
            found = self._output.get(match[1]) if match else None
        if found is None:
            raise NotKeptError(reference)
        return found

    def tensors(self, references: Mapping[str, str]) -> dict[str, NDArray]:
        return {name: self.tensor(reference) for name, reference in references.items()}


def _calibrator_scale(call: Mapping[str, Any], method: str, seen: Weights, w: Weights) -> NDArray:
    linears = [w[name] for name in w if re.fullmatch(r"fc\d+\.weight", name)]
    a, rows = seen["smooth_scale"], seen["tensor"].reshape(-1, seen["tensor"].shape[-1])
    if method == "m5":
        return to_dtype(mask_scale(seen["min"], seen["max"]), a.dtype)
    if call["fn"] == "smooth_ln_fcs":
        return smooth_scale(a, weight_scale(linears), float(call["kwargs"]["alpha"]))
    if call["fn"] == "iter_smooth":
        return smooth_scale(a, weight_scale(linears), 0.9)
    if call["fn"] == "weight_aware":
        return search_awq(mean_magnitude(rows), linear_loss(rows, linears))[0]
    if call["fn"] == "os_ln_fcs":
        parts = ("smooth_scale", "shift", "thres_t", "thres_c", "std", "tensor")
        statistics = Statistics(*(seen[name] for name in parts))
        affine = [Affine(linear, w.get(f"fc{i}.bias")) for i, linear in enumerate(linears)]
        loss = OutputLoss(statistics, affine, Numerics(linears[0].dtype))
        return search_scale(statistics, linears, loss)
    raise NotKeptError(call["fn"])


def _calibrator_call(recording: Recording, call: Mapping[str, Any], method: str) -> list[str]:
    """Return the parameters that differ after one call."""
    seen, before, after = (recording.tensors(call[k]) for k in ("stats", "before", "after"))
    scale = _calibrator_scale(call, method, seen, before)
    rows = before["norm.weight"].shape[0]
    found: Found = {}
    if call["norm_type"] == "Linear":
        scale, rows_scale = value_rows_scale(
            scale, rows, int(call["kwargs"]["num_attention_heads"])
        )
        weight = fold_producer(Affine(before["norm.weight"], None), rows_scale, "v0").weight
        found["norm.weight"] = weight
    else:
        key = "norm.module.weight" if "norm.module.weight" in before else "norm.weight"
        found[key] = fold_norm(Affine(before[key], None), scale, "v0").weight
    for name in before:
        if name.startswith("fc"):
            found[name] = fold_consumer(before[name], scale)
    return [name for name, value in found.items() if not np.array_equal(value, after[name])]


def _pipeline_scales(recording: Recording, step: Mapping[str, Any], w: Weights) -> tuple:
    """Return the scale of the consumers' columns and that of the layer before."""
    config, names = step["config"], step["names"]
    a = recording.tensor(step["context"].get("a_smooth_scale"))
    consumers = [v for k, v in w.items() if k.startswith(("linear", "down_proj", "o_proj"))]
    heads = (names.get("num_attention_heads", 0), names.get("key_value_heads", 0))
    if step["api"] == "flex_smooth_quant":
        batches = [recording.tensor(name) for name in step["context"]["tensors"]]
        rows = np.concatenate([x.reshape(-1, x.shape[-1]) for x in batches])
        best = search_alpha_beta(FlexLoss(rows, np.concatenate(consumers)))
        joined = weight_scale(consumers)
        if step["subgraph"] == "OVSubgraph" and "max" in str(config["extra_config"]):
            return grouped_max_scale(a, joined, best.alpha, best.beta, *heads)
        scale = smooth_scale(a, joined, best.alpha, best.beta)
    elif step["api"] in ("iter_smooth", "smooth_quant"):
        norm_first = step["subgraph"] == "NormLinearSubgraph"
        joined = weight_scale(consumers) if norm_first else signed_weight_scale(consumers[0])
        scale = smooth_scale(a, joined, float(config["alpha"]))
    else:
        raise NotKeptError(step["api"])
    return grouped_mean(scale, *heads) if step["subgraph"] == "OVSubgraph" else (scale, scale)


def _pipeline_step(recording: Recording, step: Mapping[str, Any]) -> list[str]:
    """Return the parameters that differ after one subgraph."""
    before, after = (recording.tensors(step[k]) for k in ("before", "after"))
    columns, rows = _pipeline_scales(recording, step, before)
    found: Found = {}
    for name, value in before.items():
        if name.startswith(("linear", "down_proj", "o_proj")):
            found[name] = fold_consumer(value, columns)
        elif name.startswith("norm"):
            found[name] = fold_norm(Affine(value, None), columns, "v1").weight
        else:
            found[name] = fold_producer(Affine(value, None), rows, "v1").weight
    return [name for name, value in found.items() if not np.array_equal(value, after[name])]


def _replayed(checkpoint: Path) -> tuple[int, list[str]]:
    """Return the number of calls redone and one line per call that differs."""
    recording = Recording(checkpoint)
    capture = recording.case.capture
    method = str(recording.case.recipe.get("anti", {}).get("anti_method", ""))
    done, wrong = 0, []
    for i, step in enumerate([*capture.get("anti_calls", []), *capture.get("smooth", [])]):
        try:
            if "fn" in step:
                differing = _calibrator_call(recording, step, method)
            else:
                differing = _pipeline_step(recording, step)
        except NotKeptError:
            continue
        done += 1
        if differing:
            wrong.append(f"call {i} ({step.get('fn') or step['subgraph']}): {differing}")
    return done, wrong


def test_recorded_smoothing_is_reproduced_bit_for_bit(checkpoint: Path) -> None:
    done, wrong = _replayed(checkpoint)
    if not done:
        pytest.skip("no smoothing with all its tensors was recorded here")
    assert not wrong, f"{wrong} of {done}"

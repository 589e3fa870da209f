"""Tensors that take the place of stored ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np

from slimspec.pipeline.calibration.source import FoldedWeights
from slimspec.pipeline.quantize import open_float

NAME = "model.layers.0.self_attn.q_proj.weight"


def test_spooled_tensor_replaces_the_stored_one_and_its_folds(build: Callable[..., Path]) -> None:
    weights = FoldedWeights(open_float(build()))
    weights.folds[NAME].append(lambda x: x * 0)
    new = np.arange(64 * 64).reshape(64, 64).astype(ml_dtypes.bfloat16)
    weights.spool(NAME, new)
    found = weights.stored(NAME)
    assert found.dtype == new.dtype
    assert np.array_equal(found, new)
    assert list(weights.added()) == []

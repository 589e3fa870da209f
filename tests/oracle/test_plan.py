"""How recorded linears are redone, on runs made up here: no oracle is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from oracle_replay.case import Case
from oracle_replay.plan import plan
from safetensors.numpy import save_file

from slimspec import schemes
from slimspec.quantize.hqq import quantize_hqq

NAME = "model.layers.0.self_attn.o_proj"


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(3).standard_t(3, (8, 64)).astype(ml_dtypes.bfloat16)


def case(tmp_path: Path, weight: np.ndarray, bias: bool = False, **recipe: Any) -> Case:
    (tmp_path / "model").mkdir()
    (tmp_path / "calib").mkdir()
    tensors = {f"{NAME}.weight": weight}
    if bias:
        tensors[f"{NAME}.bias"] = np.arange(len(weight)).astype(weight.dtype)
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    (tmp_path / "README.txt").write_text("float model: model\n", encoding="utf-8")
    (tmp_path / "calib" / "case.json").write_text(json.dumps(recipe), encoding="utf-8")
    return Case(tmp_path)


def test_hqq_is_saved_in_float16_without_the_lowest_integer(
    tmp_path: Path, weight: np.ndarray
) -> None:
    scheme = schemes.get("W4A16")
    made = plan(case(tmp_path, weight, q={"w_method": "HQQ", "a_bit": 16}), NAME, scheme, {})
    q = made.quantize(scheme)
    assert quantize_hqq(weight, bits=4).q.min() == -8
    assert q.weight.min() == -7
    assert scheme.tensors(q, "A0", "BF16")["weight_scale"].dtype == np.float16


def test_lowbit_rows_without_groups_are_float32(tmp_path: Path, weight: np.ndarray) -> None:
    scheme = schemes.get("W8A8_DYNAMIC")
    q = {"is_lowbit": True, "open_outlier": False, "group_size": -1, "is_dynamic": True}
    made = plan(case(tmp_path, weight, q=q), NAME, scheme, {}).quantize(scheme)
    wide = weight.astype(np.float32)
    scale = np.abs(wide).max(axis=1, keepdims=True) / np.float32(127)
    assert made.weight_scale is not None
    assert made.weight_scale.dtype == np.float32
    assert np.array_equal(made.weight_scale, scale)
    assert np.array_equal(made.weight, np.rint(wide / scale).astype(np.int8))


def test_first_simulated_rank_has_the_bias(tmp_path: Path, weight: np.ndarray) -> None:
    run = case(tmp_path, weight, bias=True, q={}, chain=[["simulate_tp", {"tp_size": 2}]])
    scheme = schemes.get("W8A8_DYNAMIC")
    first, second = (plan(run, f"{NAME}.tp_list.{rank}", scheme, {}).linear for rank in range(2))
    assert np.array_equal(first.weight, weight[:, :32])
    assert np.array_equal(second.weight, weight[:, 32:])
    assert first.bias is not None
    assert first.bias.tolist() == list(range(8))
    assert second.bias is None

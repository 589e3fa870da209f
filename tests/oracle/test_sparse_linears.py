"""W8A8S linears made of the recorded float weights and input parameters: the recorded bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle_replay import find_cases, oracle_root
from oracle_replay.case import Case

from slimspec import schemes
from slimspec.checkpoint import open_checkpoint
from slimspec.quantize.minmax import IntegerWeight
from slimspec.schemes import Linear
from slimspec.schemes.records import InputParams, Options
from slimspec.sparse.cosparse import quantize_cosparse
from slimspec.sparse.lowbit import LowBitOptions, w8a8s_weight


def stated(case: Path) -> dict[str, object]:
    recipe = case / "calib" / "case.json"
    return json.loads(recipe.read_text()).get("q", {}) if recipe.is_file() else {}


def sparse_cases() -> list[Path]:
    """Recordings of the older tool that are W8A8S and whose weights nothing smoothed."""
    found = []
    for case in find_cases(oracle_root()):
        recipe = stated(case)
        sparse = recipe.get("is_lowbit") or recipe.get("co_sparse")
        static = recipe.get("a_bit") == 8 and recipe.get("w_bit") == 4
        if sparse and static and not recipe.get("do_smooth") and not recipe.get("is_dynamic"):
            found.append(case)
    return found


def solve(w: NDArray, recipe: dict[str, object]) -> IntegerWeight:
    """The weight by the solver that the recipe names; low bit switches co-sparse off."""
    per_channel = not recipe.get("mm_tensor", True)
    if recipe.get("is_lowbit"):
        known = {k: recipe[k] for k in ("use_sigma", "sigma_factor", "fraction") if k in recipe}
        return w8a8s_weight(w, LowBitOptions(per_channel=per_channel, **known))  # type: ignore[arg-type]
    fraction = float(recipe.get("fraction", 0.01))  # type: ignore[arg-type]
    solved = quantize_cosparse(w, fraction, per_channel=per_channel)
    scale = solved.scale.astype(w.dtype)  # the saver multiplies in the model dtype
    return IntegerWeight(solved.q, scale, np.zeros_like(scale))


@pytest.mark.parametrize("case", sparse_cases(), ids=lambda case: case.name)
@pytest.mark.parametrize("save_type", ["ascendV1", "safe_tensor"])
def test_recorded_linears_are_reproduced(oracle: Path, case: Path, save_type: str) -> None:
    recorded = open_checkpoint(case / "quant" / save_type)
    source = Case(case).model
    scheme, checked = schemes.get("W8A8S"), 0
    for name, label in recorded.description.labels.items():  # type: ignore[union-attr]
        if not name.endswith(".weight") or label != "W8A8S":
            continue
        module = name.removesuffix(".weight")
        bias = f"{module}.bias"
        linear = Linear(source[name], source.get(bias), module)
        params = InputParams(
            recorded.tensor(f"{module}.input_scale"), recorded.tensor(f"{module}.input_offset")
        )
        weight = solve(linear.weight, stated(case))
        q = scheme.assemble(linear, weight, Options("v0", input_params=params))
        made = scheme.tensors(q, str(recorded.profile.name), str(recorded.model_dtype))
        for suffix, array in made.items():
            stored = recorded.tensor(f"{module}.{suffix}")
            assert (array.dtype, array.shape) == (stored.dtype, stored.shape), (module, suffix)
            assert array.tobytes() == stored.tobytes(), (module, suffix)
        checked += 1
    assert checked

"""The same logits and linear inputs as transformers on a CPU with eager or fused attention.

A development check: needs torch and transformers (4.51 or later) in the environment.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from slimspec.model import Decoder
from slimspec.numeric import as_float32

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        import transformers
except ImportError:
    pytest.skip("torch and transformers are not installed", allow_module_level=True)

Build = Callable[..., Path]
TOKENS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 7, 9])
ROPES: dict[str, Any] = {
    "default": None,
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn_mscale": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
        "mscale": 0.7, "mscale_all_dim": 1.0,
    },
}  # fmt: skip
# (unit of rounding, largest relative distance in norm): 2 layers of about 20 roundings, twice
LIMITS = {"float32": 80 * 2.0**-24, "float16": 80 * 2.0**-12, "bfloat16": 80 * 2.0**-9}


def run_torch(folder: Path, dtype: str, attention: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=getattr(torch, dtype), attn_implementation=attention
    )
    seen: dict[str, np.ndarray] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.__setitem__(name, args[0].float().numpy().copy())
            )
    with torch.no_grad():
        logits = model(torch.from_numpy(TOKENS)[None]).logits[0].float().numpy()
    # some versions run experts that no token chose, on no rows
    return logits, {name: x.reshape(-1, x.shape[-1]) for name, x in seen.items() if x.size}


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(as_float32(ours) - theirs) / np.linalg.norm(theirs))


def deepseek(build: Build, **changes: Any) -> Path:
    """Without MTP, which transformers leaves out, and with corrections above 0: where a corrected
    score is negative, transformers may choose an expert of a forbidden group."""
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    push = np.linspace(0.01, 0.2, 8, dtype=np.float32)
    return build("deepseek_v3", {name: push}, num_nextn_predict_layers=0, **changes)


def compare(folder: Path, dtype: str, attention: str = "eager") -> None:
    logits, inputs = run_torch(folder, dtype, attention)
    seen: dict[str, np.ndarray] = {}
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    decoder = Decoder.open(folder, kind, fused_attention=attention == "sdpa")
    ours = decoder.forward(TOKENS, lambda name, x: seen.__setitem__(name, x))
    assert seen.keys() == inputs.keys()
    far = {name: distance(seen[name], x) for name, x in inputs.items()}
    far["logits"] = distance(ours, logits)
    worst = max(far, key=far.__getitem__)
    same = sum(np.array_equal(as_float32(seen[n]), x) for n, x in inputs.items())
    print(f"{dtype}: {same} of {len(inputs)} inputs equal in bits, worst {far[worst]:.3g} {worst}")
    assert far[worst] <= LIMITS[dtype], worst


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "qwen3_moe", "deepseek_v3"])
def test_every_linear_sees_what_it_sees_in_torch(build: Build, name: str, dtype: str) -> None:
    compare(deepseek(build) if name == "deepseek_v3" else build(name), dtype)


@pytest.mark.parametrize("kind", ROPES)
def test_positions_are_scaled_as_in_torch(build: Build, kind: str) -> None:
    compare(build("llama", rope_scaling=ROPES[kind]), "float32")


def test_deepseek_positions_are_scaled_as_in_torch(build: Build) -> None:
    compare(deepseek(build, rope_scaling=ROPES["yarn_mscale"]), "float32")


@pytest.mark.parametrize("dtype", LIMITS)
def test_fused_attention_rounds_as_in_torch(build: Build, dtype: str) -> None:
    compare(build("qwen2"), dtype, "sdpa")

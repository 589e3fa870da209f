"""Float linears after an offline rotation (QuaRot), from the stored global rotation.

    reads the residual stream    w' = (w · norm) R      the weights of its norm folded in first
    writes to it                 w' = Rᵀ w
    embedding                    w' = w R

Values and outputs of attention are rotated inside each head too, by a matrix that is not stored.
Source: math.md 11.1.
"""

from __future__ import annotations

import re

from numpy.typing import NDArray

from slimspec.numeric import as_float32, mul, to_dtype

from .case import Case, Tensors

ROTATION = "global_rotation"
READERS = {  # ending of the linear -> the norm in front of it
    r"\.self_attn\.(q_proj|k_proj|q_a_proj|kv_a_proj_with_mqa)": "input_layernorm",
    r"\.mlp\.(.*\.)?(gate_proj|up_proj|gate)": "post_attention_layernorm",
}
WRITERS = r"\.mlp\.(.*\.)?down_proj"


def rotated_weight(case: Case, name: str) -> NDArray | None:
    """Return the weight of a linear after the rotation; None where it cannot be told."""
    rotation, weight = _rotation(case), case.model.get(f"{name}.weight")
    if rotation is None or weight is None:
        return None
    if name.endswith("embed_tokens"):
        return to_dtype(as_float32(weight) @ rotation, weight.dtype)
    if re.search(rf"{WRITERS}$", name):
        return to_dtype(rotation.T @ as_float32(weight), weight.dtype)
    norm = _norm(case, name)
    if norm is None:
        return None
    folded = mul(weight, norm, weight.dtype)
    return to_dtype(as_float32(folded) @ rotation, weight.dtype)


def _rotation(case: Case) -> NDArray | None:
    """The stored matrix, of a recipe that does nothing but rotate offline."""
    steps = [step for step in case.steps if step.get("type") == "quarot"]
    if case.processes != ["quarot"] or any(step.get("online") for step in steps):
        return None
    for output in case.outputs:
        files = Tensors(sorted(output.path.glob("optional/*.safetensors")))
        if ROTATION in files:
            return as_float32(files[ROTATION])
    return None


def _norm(case: Case, name: str) -> NDArray | None:
    if name.endswith("lm_head"):
        return case.model.get("model.norm.weight")
    for ending, norm in READERS.items():
        found = re.search(rf"{ending}$", name)
        if found:
            return case.model.get(f"{name[: found.start()]}.{norm}.weight")
    return None

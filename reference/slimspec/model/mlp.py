"""The gated feed-forward of a layer: down(silu(gate(x)) · up(x)).

Source: transformers models/llama/modeling_llama.py (LlamaMLP).
"""

from __future__ import annotations

from numpy.typing import NDArray

from .scope import Scope


def gated_mlp(scope: Scope, prefix: str, x: NDArray) -> NDArray:
    """Return down_proj(T(T(silu(gate_proj(x)))·up_proj(x))). Args: x (t, hidden). Returns: same.

    The width between is that of the stored gate.
    """
    width = scope.weights.rows(f"{prefix}.gate_proj.weight")
    gate = scope.linear(f"{prefix}.gate_proj", x, width)
    up = scope.linear(f"{prefix}.up_proj", x, width)
    inner = scope.numerics_of(gate).swiglu(gate, up)
    return scope.linear(f"{prefix}.down_proj", inner, scope.architecture.hidden)

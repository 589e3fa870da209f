"""What the cache and the attention of a layer hold while calibration texts pass by.

C8 of "v0" sees the outputs of k_proj and v_proj, before rotation; C8 of "v1" and FAQuant see the
states that attention multiplies. Latent attention multiplies queries and the compressed latent:
its heads share one key, which is also the value.

Source: math.md 9.1, 9.2; formats.md 3.0 (FA); msmodelslim
model/deepseek_v3/model_adapter.py:341-450.
"""

from __future__ import annotations

from collections import defaultdict

from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.model import Architecture, Linear
from slimspec.numeric import as_float32, to_dtype
from slimspec.observe.fa_amp import outlier_score
from slimspec.schemes import QuantizedAttention, attention_schemes
from slimspec.schemes.c8 import C8
from slimspec.schemes.faquant import FAQuant

from .settings import AttentionStep, Settings

Batches = dict[str, list[NDArray]]
ROLES = ("k_proj", "v_proj")


class ProjectionRecorder:
    """Computes a linear and keeps the outputs of k_proj and v_proj (C8 of the Calibrator API)."""

    def __init__(self, inner: Linear) -> None:
        self._inner = inner
        self.seen: dict[str, Batches] = defaultdict(lambda: defaultdict(list))

    def __call__(self, name: str, x: NDArray, w: NDArray, b: NDArray | None) -> NDArray:
        """Return what the inner linear gives."""
        y = self._inner(name, x, w, b)
        module, _, role = name.rpartition(".")
        if role in ROLES:
            self.seen[module][role].append(y)
        return y


class StatesRecorder:
    """Keeps q, k and v of every attention; give it to a decoder as `states`.

    Attributes:
        seen: states of every text by attention and role.
    """

    def __init__(self) -> None:
        self.seen: dict[str, Batches] = defaultdict(lambda: defaultdict(list))

    def __call__(
        self, name: str, q: NDArray, k: NDArray, v: NDArray
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Record the states and return them. Args: q (h, t, d); k, v (kv, t, d)."""
        for role, states in zip("qkv", (q, k, v), strict=True):
            self.seen[name][role].append(states)
        return q, k, v


def cache_params(batches: Batches, name: str, settings: Settings) -> QuantizedAttention:
    """Return C8 of one attention. Args: batches: role -> outputs or states of every text."""
    scheme = C8()
    symmetric = settings.cache_step is None or settings.cache_step.symmetric
    if settings.variant == "v0":
        return scheme.quantize(batches, variant="v0", name=name, symmetric=symmetric)
    last = {"k_proj": [batches["k"][-1][None]], "v_proj": [batches["v"][-1][None]]}
    return scheme.quantize(last, variant="v1", name=name, symmetric=symmetric)


def head_params(
    batches: Batches,
    name: str,
    settings: Settings,
    architecture: Architecture,
    latent: list[NDArray] | None = None,
    kv_b: NDArray | None = None,
) -> QuantizedAttention:
    """Return FAQuant of one attention.

    Args: batches: q, k, v of every text; latent: inputs of kv_b_proj (t, rank) and its weight
        kv_b, for latent attention.
    """
    roles = {"fa_q": batches["q"], "fa_k": batches["k"], "fa_v": batches["v"]}
    if architecture.latent:
        if latent is None or kv_b is None:
            raise CheckpointError(f"{name}: FAQuant needs the inputs of kv_b_proj")
        queries = absorbed_queries(batches["q"], kv_b, architecture)
        shared = [c[None] for c in latent]  # one head
        roles = {"fa_q": queries, "fa_k": shared, "fa_v": shared}
    seen = {role: [states[None] for states in found] for role, found in roles.items()}
    return attention_schemes()["FAQuant"].quantize(seen, variant=settings.variant, name=name)


def states_params(batches: Batches, name: str, step: AttentionStep) -> QuantizedAttention:
    """Return FAQuant of one attention by the one-click service.

    Args: batches: q, k, v of every text; of latent attention the absorbed queries and the latent.
    """
    roles = [role for role in "qkv" if role not in step.dynamic]
    seen = {f"fa_{role}": [states[None] for states in batches[role]] for role in roles}
    return FAQuant().quantize(seen, variant="v1", element=step.element, name=name)


def absorbed_queries(
    queries: list[NDArray], kv_b: NDArray, architecture: Architecture
) -> list[NDArray]:
    """Queries in the space of the latent: q_nope · W_k of each head.

    Args: queries (h, t, nope + rope) per text; kv_b (h·(nope + value), rank).
    Returns: (h, t, rank) per text, of T.
    """
    sizes = architecture.latent
    assert sizes is not None
    per_head = kv_b.reshape(architecture.heads, sizes.nope + sizes.value, -1)
    keys = as_float32(per_head[:, : sizes.nope])  # (h, nope, rank)
    return [to_dtype(as_float32(q[..., : sizes.nope]) @ keys, q.dtype) for q in queries]


def widest_attentions(seen: dict[str, Batches], count: int) -> list[str]:
    """Return the attentions that `fa_amp` keeps float: those whose values reach furthest out.

    Score of a layer: the largest max|x| / edge of its q, k and v. Source: math.md 9.2 (fa_amp).
    """
    scores = {}
    for name, batches in seen.items():
        first = (as_float32(found[0]) for found in batches.values())
        scores[name] = max(1 / float(outlier_score(x)[0]) for x in first)
    return sorted(scores, key=lambda name: -scores[name])[:count]


__all__ = [
    "ProjectionRecorder",
    "StatesRecorder",
    "cache_params",
    "head_params",
    "states_params",
    "widest_attentions",
]

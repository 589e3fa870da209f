"""Redo what hangs on attention modules: scales of the KV cache and of FAQuant."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from slimspec import layout, schemes
from slimspec.numeric import as_float32, to_dtype
from slimspec.schemes import QuantizedAttention
from slimspec.schemes.c8 import C8
from slimspec.schemes.faquant import FAQuant

from .case import Case, Output
from .plan import NotReplayedError

STATES = {"k_proj": "key_states", "v_proj": "value_states"}


def attentions(
    output: Output, profile: str | None
) -> Iterator[tuple[str, str, dict[str, NDArray]]]:
    """Yield module, label and suffix -> tensor of every quantized attention of a directory."""
    for label in schemes.attention_schemes():
        if profile is None or profile not in layout.load(label).profiles:
            continue
        found: dict[str, dict[str, NDArray]] = defaultdict(dict)
        for suffix in layout.load(label).rules(profile):
            for name, own in output.labels.items():
                if own == label and name.endswith(f".{suffix}"):
                    found[name.removesuffix(f".{suffix}")][suffix] = output.tensors[name]
        for module, tensors in found.items():
            yield module, label, tensors


def requantize(
    case: Case, module: str, label: str, stored: Mapping[str, NDArray]
) -> tuple[QuantizedAttention, str, bool]:
    """Return the parameters, where they come from, and whether by formula alone.

    Raises: NotReplayedError.
    """
    if label == C8.label:
        return _cache_v0(case, module) if case.variant == "v0" else _cache_v1(case, module)
    return _heads(case, module, stored)


def _cache_v1(case: Case, module: str) -> tuple[QuantizedAttention, str, bool]:
    """The last calibration batch of what went into the cache."""
    index = re.search(r"\.(\d+)(\.|$)", module)
    step = next((s for s in case.steps if s.get("type") == "dynamic_cache"), {})
    batches = {}
    for role, states in STATES.items():
        seen = case.capture.get("kv", {}).get(f"layer{index and index[1]}.{states}", {})
        batches[role] = [_kept(case, r, "the cached states") for r in seen.get("inputs", [])[-1:]]
        if not batches[role]:
            raise NotReplayedError("the cached states were not kept")
    symmetric = step.get("qconfig", {}).get("symmetric", True)
    made = C8().quantize(batches, variant="v1", name=module, symmetric=symmetric)
    return made, "observed states of the last batch", True


def _cache_v0(case: Case, module: str) -> tuple[QuantizedAttention, str, bool]:
    """The outputs of the projections in a run of the float model.

    Only the first layer sees the same inputs there as in the quantized run that was captured. The
    outputs are sums over k, so the order of the sums may show.
    """
    if not re.search(r"\.0(\.|$)", module):
        raise NotReplayedError("inputs of later layers in the float run were not kept")
    batches = {}
    for role in STATES:
        seen = case.linear(f"{module}.{role}")
        weight = _kept(case, seen.get("float_weight"), "the float weight")
        bias = case.resolve(seen.get("float_bias"))
        inputs = [_kept(case, r, "the inputs") for r in seen.get("inputs", [])]
        batches[role] = [_project(x, weight, bias) for x in inputs]
        if not inputs:
            raise NotReplayedError("the inputs were not kept")
    symmetric = case.recipe["q"].get("kv_sym", True)
    made = C8().quantize(batches, variant="v0", name=module, symmetric=symmetric)
    return made, "outputs of the float projections", False


def _project(x: NDArray, weight: NDArray, bias: NDArray | None) -> NDArray:
    y = as_float32(x) @ as_float32(weight).T
    return to_dtype(y if bias is None else y + as_float32(bias), x.dtype)


def _heads(
    case: Case, module: str, stored: Mapping[str, NDArray]
) -> tuple[QuantizedAttention, str, bool]:
    """The windows of all batches per head, or the captured ends of them."""
    roles = sorted({suffix.partition(".")[0] for suffix in stored})
    seen = {role: case.capture.get("fa", {}).get(f"{module}.{role}", {}) for role in roles}
    kinds = {"fp8_e4m3" if s.get("ir", "").startswith("FP8") else "int8" for s in seen.values()}
    element = kinds.pop()
    try:
        batches = {
            role: [_kept(case, r, "the samples") for r in s.get("inputs", [])]
            for role, s in seen.items()
        }
        ratios = {role: float(s["ratio"]) for role, s in seen.items() if "ratio" in s}
        if not all(batches.values()):
            raise NotReplayedError("the samples were not kept")
        made = FAQuant().quantize(
            batches, variant=case.variant or "v1", name=module, element=element, ratios=ratios
        )
        return made, "observed samples", True
    except NotReplayedError:
        ends = {
            role: tuple(_kept(case, s.get(end), "samples and windows") for end in ("min", "max"))
            for role, s in seen.items()
        }
        return FAQuant().from_ranges(ends, element=element, name=module), "captured windows", True


def _kept(case: Case, reference: str | None, what: str) -> NDArray:
    found = case.resolve(reference)
    if found is None:
        raise NotReplayedError(f"{what} were not kept")
    return np.asarray(found)

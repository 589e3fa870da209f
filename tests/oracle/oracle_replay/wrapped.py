"""Wrapped linears (FlatQuant, SVD): redone from the weight the wrapper left, if it was kept.

Otherwise from the float model through the stored parts, which only measures: the producer used
more digits, or more parameters, than it stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from slimspec import layout
from slimspec.schemes import Linear, QuantizedLinear, Scheme
from slimspec.schemes.wrapper import Wrapper

from .case import Case
from .plan import KEEPS_WEIGHTS, NotReplayedError, Plan, plan

STEP = {"SVD": "svd_res", "FLATQUANT": "flatquant"}  # the step of a recipe that wraps
UNKNOWN = {
    "SVD": "stored factors, rounded after the producer subtracted them",
    "FLATQUANT": "stored transforms, without the learned diagonal, clipping and head rotation",
}


@dataclass(frozen=True)
class WrappedPlan(Plan):
    """A plan for the inner scheme; `parts` are the stored tensors of the wrapper."""

    parts: Mapping[str, NDArray] = field(default_factory=dict)

    def quantize(self, scheme: Scheme) -> QuantizedLinear:
        """Return the wrapped linear."""
        assert isinstance(scheme, Wrapper)
        if not self.unknown:
            return scheme.wrap(super().quantize(scheme.inner), self.parts)
        changed = scheme.change_weight(self.linear.weight, self.parts)
        ready = replace(self, linear=replace(self.linear, weight=changed))
        return scheme.wrap(Plan.quantize(ready, scheme.inner), self.parts)


def plan_wrapped(case: Case, name: str, scheme: Wrapper, stored: Mapping[str, NDArray]) -> Plan:
    """Return how to redo one wrapped linear. Raises: NotReplayedError."""
    suffixes = (*scheme.required, *scheme.optional)
    parts = {suffix: stored[suffix] for suffix in suffixes if suffix in stored}
    try:
        return _wrapped(plan(case, name, scheme.inner, stored), parts)
    except NotReplayedError as why:
        wrapper = _derivation(scheme)
        weight = case.model.get(f"{name}.weight")
        lost = "not kept" in str(why) and weight is not None
        if not lost or set(case.processes) - KEEPS_WEIGHTS - {STEP.get(wrapper)}:
            raise
        if wrapper == "FLATQUANT" and "right_trans" not in parts:
            raise NotReplayedError("the right transform is inside the attention") from None
        linear = Linear(weight, case.model.get(f"{name}.bias"), name)
        made = plan(case, name, scheme.inner, stored, linear)
        return _wrapped(made, parts, UNKNOWN[wrapper])


def _derivation(scheme: Wrapper) -> str:
    found = layout.resolve(scheme.label)
    assert found is not None
    assert found[1] is not None
    return found[1].name


def _wrapped(made: Plan, parts: Mapping[str, NDArray], unknown: str = "") -> WrappedPlan:
    values: dict[str, Any] = vars(made) | {"unknown": unknown, "parts": parts}
    return WrappedPlan(**values)

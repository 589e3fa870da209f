"""How a linear was quantized, as far as the recipe and the capture tell."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.observe.activation import activation_range
from slimspec.observe.histogram_v1 import HistogramObserverV1
from slimspec.observe.minmax import float64_mean_of_extrema, running_extrema
from slimspec.patterns import matches_glob
from slimspec.pipeline.calibration.communication import Parallel
from slimspec.quantize.affine import without_lowest
from slimspec.quantize.gptq import quantize_gptq
from slimspec.quantize.hqq import quantize_hqq
from slimspec.quantize.minmax import IntegerWeight
from slimspec.quantize.mxfp4 import CEIL_X
from slimspec.quantize.ssz import quantize_ssz
from slimspec.schemes import InputParams, Linear, Options, QuantizedLinear, Scheme

from .case import Case
from .rotated import rotated_weight

STORED = "stored parameters"


Batches = list[NDArray]
Observer = Callable[[Batches], tuple[NDArray, NDArray]]
Solver = Callable[[Linear, Options, int, Batches], IntegerWeight]

V1_MINMAX = {"WeightPerChannelMinmax", "WeightPerGroupMinmax", "MXWeightPerBlockMinmax", "minmax"}
V1_MX_METHODS = {  # class or method of the weight quantizer -> method of our scheme
    "WeightFouroverSixQuantizer": "fouroversix",
    "fouroversix": "fouroversix",
    "MXWeightPerBlockMseRound": "mse_round",
    "mse_round": "mse_round",
    "MXWeightPerBlockCeilX": "ceil_x",
    "ceil_x": "ceil_x",
    "MXWeightDualScaleMinmax": "minmax",
    "dualscale": "minmax",
}
V1_OBSERVED = {"ActPerTensorMinmax", "ActPDMixMinmax", "ActPerTensorHistogram"}
KEEPS_WEIGHTS = {"linear_quant", "dynamic_cache", "fa3_quant"}  # v1 steps that change no float


class NotReplayedError(Exception):
    """Outside what is reproduced; the message says why and names the recipe."""


@dataclass(frozen=True)
class Plan:
    """The float linear, the options for the scheme, and where the input parameters come from.

    `solver` makes the integers where that is not min-max; its sums may run in another order.
    `unknown` says what the producer had and did not store; such a plan only measures.
    `summed`: the weight itself comes from sums, whose order may show.
    """

    linear: Linear
    options: Options
    source: str = "weights alone"
    method: str = "min-max"
    solver: Solver | None = None
    batches: Batches = field(default_factory=list)
    unknown: str = ""
    summed: bool = False

    @property
    def exact(self) -> bool:
        """True if every bit must come out: formulas alone, no sums."""
        return self.solver is None and not self.unknown and not self.summed

    def quantize(self, scheme: Scheme) -> QuantizedLinear:
        """Return the linear as the producer quantized it."""
        if self.solver is None:
            return scheme.quantize(self.linear, **vars(self.options))
        weight = self.solver(self.linear, self.options, scheme.bits, self.batches)
        return scheme.assemble(self.linear, weight, self.options)


def plan(
    case: Case,
    name: str,
    scheme: Scheme,
    stored: Mapping[str, NDArray],
    linear: Linear | None = None,
) -> Plan:
    """Return how to redo one linear, from `linear` if given. Raises: NotReplayedError."""
    if case.variant is None:
        raise NotReplayedError("no recipe")
    if scheme.label == "FLOAT":
        turned = rotated_weight(case, name)
        if turned is not None:
            made = Linear(turned, case.model.get(f"{name}.bias"), name)
            return Plan(made, Options(case.variant), "stored rotation", "rotated", summed=True)
        return Plan(_float_linear(case, name), Options(case.variant), method="copied")
    read = _options_v0 if case.variant == "v0" else _options_v1
    options, observer, method = read(case, name)
    ran = bool(case.linear(name).get("inputs"))
    solver = None if method == "min-max" else _solver(method, ran)
    if solver is None and method != "min-max":
        raise NotReplayedError(f"weight solver {method} (steps: {', '.join(case.processes)})")
    linear = linear or _float_linear(case, name)
    if _lowbit_rows(case, options):
        options = replace(options, group_size=linear.weight.shape[1])
    made = Plan(
        linear,
        options,
        method=method,
        solver=solver,
        batches=_batches(case, name),
    )
    if "input_params" not in scheme.takes:
        return replace(made, options=replace(options, activation_symmetric=False))
    return _with_input(case, name, stored, made, observer)


def _ssz(linear: Linear, options: Options, bits: int, batches: Batches) -> IntegerWeight:
    return quantize_ssz(linear.weight, bits=bits, error_dtype=np.float32, name=linear.name)


def _ssz_in_run(linear: Linear, options: Options, bits: int, batches: Batches) -> IntegerWeight:
    """While activations pass (static types, and what is in a group with them): their dtype."""
    dtype = linear.weight.dtype
    return quantize_ssz(linear.weight, bits=bits, error_dtype=dtype, name=linear.name)


def _hqq(linear: Linear, options: Options, bits: int, batches: Batches) -> IntegerWeight:
    made = quantize_hqq(linear.weight, bits=bits, symmetric=options.symmetric, name=linear.name)
    return _saved(made, options, bits)


def _gptq(linear: Linear, options: Options, bits: int, batches: Batches) -> IntegerWeight:
    if not batches:
        raise NotReplayedError("GPTQ, and the inputs were not kept")
    made = quantize_gptq(
        linear.weight,
        batches,
        bits=bits,
        symmetric=options.symmetric,
        variant=options.variant,
        granularity="group" if options.group_size else "channel",
        group_size=options.group_size,
        name=linear.name,
    )
    return _saved(made, options, bits)


def _saved(made: IntegerWeight, options: Options, bits: int) -> IntegerWeight:
    """Without the most negative integer, where "v0" saves symmetric ones."""
    if options.variant != "v0" or not options.symmetric:
        return made
    return replace(made, q=without_lowest(made.q, bits))


SOLVERS: dict[str, Solver] = {"ssz": _ssz, "hqq": _hqq, "gptq": _gptq}


def _solver(method: str, ran: bool) -> Solver | None:
    """Return the routine for a method or the name of a producer's class.

    ran: activations went through the linear while its weight was quantized.
    """
    if ran and "ssz" in method.lower():
        return _ssz_in_run
    return next((made for key, made in SOLVERS.items() if key in method.lower()), None)


Read = tuple[Options, Observer | None, str]


def _options_v0(case: Case, name: str) -> Read:
    q = {**case.recipe["q"], **_literals(case.capture.get("quant_config", {}))}
    method = q.get("w_method", "MinMax")
    kind = case.linear(name).get("class", "LinearQuantizer")
    if kind != "LinearQuantizer":
        raise NotReplayedError(f"weights by {kind}")
    lowbit = bool(q.get("is_lowbit", False))
    if lowbit and q.get("open_outlier", True):
        raise NotReplayedError("low-bit weights with an outlier split")
    options = Options(
        "v0",
        symmetric=q.get("w_sym", True),
        per_tensor=q.get("mm_tensor", True) and not lowbit,
        group_size=max(q.get("group_size", 64), 0) if lowbit else 0,
        activation_symmetric=q.get("a_sym", False),
    )
    observer = partial(activation_range, act_method=q.get("act_method", 1))
    return options, observer, "min-max" if method == "MinMax" else method


def _lowbit_rows(case: Case, options: Options) -> bool:
    """True for low-bit weights per row, which are one group to their quantizer."""
    return case.recipe.get("q", {}).get("is_lowbit", False) and not options.group_size


def _literals(texts: Mapping[str, str]) -> dict[str, Any]:
    """Read the captured repr of each configuration value, where it is a literal."""
    found = {}
    for key, text in texts.items():
        try:
            found[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[key] = text
    return found


def _options_v1(case: Case, name: str) -> Read:
    seen, config = case.linear(name), _qconfig(case, name)
    weight, act = config.get("weight", {}), config.get("act") or {}
    solver = seen.get("weight_quantizer") or weight.get("method")
    extra = weight.get("ext") or {}
    by_formula = solver in V1_MINMAX or solver in V1_MX_METHODS
    if extra.get("enable_search") or extra.get("ceil_x_value", CEIL_X) != CEIL_X:
        by_formula = False
    method = "min-max" if by_formula else str(solver)
    options = Options(
        "v1",
        symmetric=weight.get("symmetric", True),
        group_size=extra.get("group_size", 0) if weight.get("scope") == "per_group" else 0,
        dual_block=extra.get("dual_block_size", 0),
        activation_symmetric=act.get("symmetric", False),
        method=V1_MX_METHODS.get(str(solver), "minmax"),
    )
    quantizer = seen.get("act_quantizer", "")
    if quantizer not in V1_OBSERVED:
        return options, None, method
    if "Histogram" in quantizer:
        return options, _histogram_range, method
    mean = (act.get("ext") or {}).get("aggregation_type", "max") == "mean"
    return options, float64_mean_of_extrema if mean else running_extrema, method


def _histogram_range(batches: list[NDArray]) -> tuple[NDArray, NDArray]:
    observer = HistogramObserverV1()
    for batch in batches:
        observer.update(batch)
    return observer.range()


def _qconfig(case: Case, name: str) -> Mapping[str, Any]:
    """Return the qconfig of the first linear_quant step that includes a linear; {} if none."""
    for step in case.steps:
        included = any(matches_glob(name, p) for p in step.get("include", ["*"]))
        excluded = any(matches_glob(name, p) for p in step.get("exclude", []))
        if "qconfig" in step and step.get("type") == "linear_quant" and included and not excluded:
            return step["qconfig"]
    return {}


def _float_linear(case: Case, name: str) -> Linear:
    if not case.model:
        raise NotReplayedError("the float model is not here")
    seen = case.linear(name)
    if seen:
        weight, bias = (case.resolve(seen.get(key)) for key in ("float_weight", "float_bias"))
        if seen.get("float_bias") and bias is None:
            raise NotReplayedError("the float bias was not kept")
    else:
        weight, bias = case.model.get(f"{name}.weight"), case.model.get(f"{name}.bias")
        if weight is None and name == "lm_head":  # tied: stored once in the float model
            weight = case.model.get("model.embed_tokens.weight")
        if case.recipe.get("anti") or set(case.processes) - KEEPS_WEIGHTS:
            weight = None
        elif case.recipe.get("load_dtype") == "fp32":
            weight, bias = (None if t is None else t.astype(np.float32) for t in (weight, bias))
    if weight is None:
        shard = _shard(case, name)
        if shard is not None:
            return shard
        changed = case.recipe.get("anti", {}).get("anti_method") or ", ".join(case.processes)
        raise NotReplayedError(f"the float weight after {changed} was not kept")
    return Linear(weight, bias, name)


def _shard(case: Case, name: str) -> Linear | None:
    """Return the linear that one simulated device holds."""
    match = re.fullmatch(r"(.+)\.tp_list\.(\d+)", name)
    whole = case.model.get(f"{match[1]}.weight") if match else None
    chain = dict(case.recipe.get("chain", []))
    if match is None or whole is None or "simulate_tp" not in chain or case.recipe.get("anti"):
        return None
    linear = Linear(whole, case.model.get(f"{match[1]}.bias"), match[1])
    return Parallel(chain["simulate_tp"]["tp_size"]).cuts(linear)[int(match[2])]


def _with_input(
    case: Case, name: str, stored: Mapping[str, NDArray], made: Plan, observer: Observer | None
) -> Plan:
    """Add the input range or parameters: observed, else as captured, else as stored."""
    seen, dtype = case.linear(name), made.linear.weight.dtype
    if observer and made.batches:
        ready = replace(made.options, activation_range=observer(made.batches))
        return replace(made, options=ready, source="observed inputs")
    scale, offset = (_captured_param(case, seen, what) for what in ("scale", "offset"))
    source = "captured parameters"
    if scale is None or offset is None:
        scale, offset = stored["input_scale"], stored["input_offset"]
        source = STORED
        if np.array_equal(scale.astype(dtype).astype(scale.dtype), scale):  # widened when saved
            scale, offset = scale.astype(dtype), offset.astype(dtype)
    params = InputParams(scale.reshape(1), offset.reshape(1))
    options = replace(made.options, input_params=params, activation_symmetric=False)
    return replace(made, options=options, source=source)


def _batches(case: Case, name: str) -> Batches:
    """Return the inputs of a linear, one array per calibration call; [] unless all were kept."""
    references = case.linear(name).get("inputs") or []
    found = [b for b in map(case.resolve, references) if b is not None]
    return found if len(found) == len(references) else []


def _captured_param(case: Case, seen: Mapping[str, Any], what: str) -> NDArray | None:
    reference = seen.get("quant_input", {}).get(f"input_{what}")
    return case.resolve(reference or seen.get("act_param", {}).get(what))

"""The linear of a calibration run: weights and inputs rounded as in the quantized model.

    y = T(Q(x)·Q(W)ᵀ + b)     for static types, Q(x) by the range of what was seen so far

Source: math.md 1.5 (weights in the run use all integers), 2.1, 2.7; msmodelslim
pytorch/llm_ptq/llm_ptq_tools/quant_modules.py (LinearQuantizer), core/quantizer/linear.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import schemes
from slimspec.model import FloatLinear, Numerics
from slimspec.numeric import add, to_dtype
from slimspec.pipeline.prune_model import PRUNED
from slimspec.pipeline.recipe import KEEP, Rule
from slimspec.pipeline.shard_map import row_parallel
from slimspec.pipeline.solvers import WeightSolver
from slimspec.quantize.affine import dequantize_rows
from slimspec.quantize.minmax import Granularity, IntegerWeight, quantize_minmax
from slimspec.quantize.svd_lowrank import LowRank
from slimspec.schemes import InputParams, Linear
from slimspec.schemes.mx import MxScheme

from .communication import SHARD, Communication, Parallel
from .gptq import GptqWeights, by_gptq
from .observers import RunningInput, fake_axis, fake_blocks, fake_fp8, fake_input, fake_tokens
from .settings import Settings

DYNAMIC, FP8 = "_DYNAMIC", "WFP8AFP8_DYNAMIC"
FLOATS = (KEEP, PRUNED)
WEIGHTS_ALONE = "A16"
BEHIND = sys.maxsize  # the turn in which all linears are deployed


def takes_range(label: str) -> bool:
    """True for a type with static activations."""
    return label != KEEP and "input_params" in schemes.get(label).takes


def sees_texts(label: str, options: Mapping[str, Any]) -> bool:
    """True for a linear that has to see texts: of a static type, or made by GPTQ."""
    return takes_range(label) or by_gptq(options)


class CalibrationLinear:
    """Computes every linear of a run; give it to a decoder.

    Linears of "v1" take turns (`Rule.turn`): those of earlier ones are deployed, they have their
    parameters and observe no more; those of later ones are still float.

    Attributes:
        inputs: what was observed, by linear.
        communication: what the ranks of a linear sent, by linear.
        reached: dtype of the first input that a linear saw in its turn, by linear; a weight is made
            as it passes.
        gptq: the weights that GPTQ makes ("v1").
        branches: factors of the float branches beside linears.
    """

    def __init__(
        self,
        numerics: Numerics,
        rules: Mapping[str, Rule],
        settings: Settings,
        methods: Callable[[str], int],
        solver: WeightSolver | None = None,
        parallel: Parallel | None = None,
    ) -> None:
        """Prepare a run.

        Args: rules: type of each linear, those not named stay float; methods: act_method 1 or 2 of
            a linear; solver: makes weights that are not min-max; parallel: ranks that quantize
            what they send.
        """
        self.communication: dict[str, Communication] = {}
        self.inputs: dict[str, RunningInput] = {}
        self.gptq = GptqWeights()
        self.branches: Mapping[str, LowRank] = {}
        self.reached: dict[str, np.dtype[Any]] = {}
        self._numerics, self._rules, self._settings = numerics, rules, settings
        self._methods, self._solver, self._parallel = methods, solver, parallel
        self._turn = 0
        self.next_layer()

    def start(self, turn: int) -> None:
        """Deploy the linears of earlier turns; observe those of this one."""
        self.gptq.solve()
        self._turn = turn

    def next_layer(self) -> None:
        """Finish the weights of the layer before, and forget them."""
        self.gptq.solve()
        self._float = FloatLinear(self._numerics)
        self._wide = FloatLinear(Numerics(np.float32))
        self._weights: dict[str, NDArray] = {}

    def params(self) -> dict[str, InputParams]:
        """Scale and offset of every static linear that saw a batch."""
        return {
            name: seen.params
            for name, seen in self.inputs.items()
            if seen.params and takes_range(self._rules[name.partition(SHARD)[0]].type)
        }

    def __call__(self, name: str, x: NDArray, w: NDArray, b: NDArray | None) -> NDArray:
        """Return T(Q(x)·Q(w)ᵀ + b). Args: x (t, k), w (n, k), b (n,) or None. Returns: (t, n)."""
        rule = self._rules.get(name)
        if name in self.branches:
            y = self._without_branch(name, x, w, b, rule)
            return add(y, self._branch(self.branches[name], x), y.dtype)
        return self._without_branch(name, x, w, b, rule)

    def _branch(self, factors: LowRank, x: NDArray) -> NDArray:
        """T(T(x·l1ᵀ)·l2ᵀ) of a float branch. Source: msmodelslim ir/svd_residual.py (forward)."""
        n = self._numerics
        low = n.product(n.round(x), n.prepared(factors.l1))
        return n.product(low, n.prepared(factors.l2))

    def _without_branch(
        self, name: str, x: NDArray, w: NDArray, b: NDArray | None, rule: Rule | None
    ) -> NDArray:
        if rule is None or self._stays_float(rule):
            return self._float(name, x, w, b)
        if self._parallel is not None and takes_range(rule.type) and row_parallel(name):
            return self._summed(self._parallel, Linear(w, b, name), x, rule)
        return self._one(name, x, w, b, rule)

    def _summed(self, parallel: Parallel, linear: Linear, x: NDArray, rule: Rule) -> NDArray:
        """Return the quantized sum of what each rank computes."""
        parts = parallel.cuts(linear)
        rows = np.split(x, parallel.ranks, axis=1)  # (t, k / ranks) each
        partial = [
            self._one(part.name, np.ascontiguousarray(columns), part.weight, part.bias, rule)
            for part, columns in zip(parts, rows, strict=True)
        ]
        sums = self.communication.setdefault(linear.name, Communication(parallel))
        return sums(partial)

    def _one(self, name: str, x: NDArray, w: NDArray, b: NDArray | None, rule: Rule) -> NDArray:
        deployed = self._deployed(rule)
        if not deployed:
            self.reached.setdefault(name, x.dtype)
        compute = self._wide if self._widens(x, rule) else self._float
        if self._observes(rule):
            x = self._static(name, x, rule)
        elif rule.type.endswith(DYNAMIC):
            x = self._dynamic(x, rule)
        elif isinstance(schemes.get(rule.type).core, MxScheme):
            x = fake_blocks(x, rule.type)
        if self._solver is not None:
            self._solver.see(name, x)
        if by_gptq(rule.options) and not deployed:
            self.gptq.see(name, x, w, rule)
            return compute(name, x, w, b)
        return compute(name, x, self._weight(name, w, rule), b)

    def _observes(self, rule: Rule) -> bool:
        """True for inputs that are rounded by the range of what was seen so far.

        "v0" does it for types with dynamic activations as well, while it calibrates. Source:
        msmodelslim pytorch/llm_ptq/llm_ptq_tools/quant_modules.py:283-322; measured on a run with
        mix_cfg.
        """
        dynamic = rule.type.endswith(DYNAMIC)
        return takes_range(rule.type) or (self._settings.variant == "v0" and dynamic)

    def _dynamic(self, x: NDArray, rule: Rule) -> NDArray:
        """An input that engines quantize per token; deployed linears of "v1" do it per column.

        Those whose weights have groups do it per token. Source: msmodelslim ir/w8a8_dynamic.py,
        ir/w4a8_dynamic.py (forward: extremes over axis 0 of all tokens that a linear gets).
        """
        if rule.type == FP8:
            return fake_fp8(x, 0 if self._deployed(rule) else None)
        if not self._deployed(rule):
            return fake_tokens(x)
        return fake_axis(x, 1 if rule.options.get("group_size") else 0)

    def _widens(self, x: NDArray, rule: Rule) -> bool:
        """True for a float32 result: of "v1" once the linear is deployed, or for such an input.

        The scales of integers and of FP8 are float32, those of MX are exponents. Operands keep the
        dtype of what they were rounded with. Where the weights alone are rounded, the tool meets
        16-bit inputs with float32 weights and fails; we round these to the inputs' dtype. Source:
        measured on recorded cache scales; msmodelslim ir/w8a8_static.py, ir/w8a16_static.py,
        ir/w8a8_fp_dynamic.py, core/quantizer/linear.py.
        """
        alone = rule.type.endswith(WEIGHTS_ALONE)
        wide = self._deployed(rule) and "MX" not in rule.type and not alone
        return wide or (self._settings.variant == "v1" and x.dtype == np.float32)

    def _deployed(self, rule: Rule) -> bool:
        return self._settings.variant == "v1" and rule.turn < self._turn

    def _stays_float(self, rule: Rule) -> bool:
        """True for a linear without a type, of float weights, or of a later turn."""
        later = self._settings.variant == "v1" and rule.turn > self._turn
        return later or rule.type in FLOATS

    def _static(self, name: str, x: NDArray, rule: Rule) -> NDArray:
        seen = self.inputs.get(name)
        if seen is None:
            seen = RunningInput(name, self._settings, self._methods(name.partition(SHARD)[0]))
            self.inputs[name] = seen
        mixed = rule.type == "W8A8_MIX" and self._settings.variant == "v1"
        if self._deployed(rule):
            if mixed:
                return fake_axis(x, 0)  # the prefill way again: msmodelslim ir/w8a8_pdmix.py
            if seen.params is not None:
                return fake_input(x, seen.params, f"{name} input")
        if mixed:
            seen.see(x)
            return fake_tokens(x)  # math.md 2.7: the run goes the prefill way
        return seen.fake(x)

    def _weight(self, name: str, w: NDArray, rule: Rule) -> NDArray:
        if name not in self._weights:
            if by_gptq(rule.options):
                self._weights[name] = to_dtype(self.gptq.seen_by_run(name), w.dtype)
            else:
                ready = reached_rule(rule, self.reached.get(name))
                linear = Linear(w, None, name)
                self._weights[name] = fake_weight(linear, ready, self._settings, self._solver)
        return self._weights[name]


def reached_rule(rule: Rule, dtype: np.dtype[Any] | None) -> Rule:
    """Return the rule of a linear that activations of a dtype pass while its weight is made.

    The errors that decide in SSZ are then of that dtype. None, where none pass: the rule as it is.
    """
    if dtype is None or rule.options.get("method") != "ssz":
        return rule
    return replace(rule, options={**rule.options, "error_dtype": dtype})


def fake_weight(
    linear: Linear, rule: Rule, settings: Settings, solver: WeightSolver | None = None
) -> NDArray:
    """Return the weight as a run sees it, [n, k] in its own dtype.

    8-bit symmetric weights take all 256 integers here, also where the file of "v0" has 255.
    """
    scheme, options = schemes.get(rule.type), dict(rule.options)
    dtype = linear.weight.dtype
    if solver is not None and solver.takes(rule.type):
        return to_dtype(solver(linear, rule).seen, dtype)
    plain = options.get("method", "minmax") == "minmax" and options.get("symmetric", True)
    if rule.type == FP8:
        return fake_fp8(linear.weight, 1)
    if scheme.bits == 8 and "MX" not in rule.type and plain and not options.get("group_size"):
        granularity: Granularity = "tensor" if options.get("per_tensor") else "channel"
        made = quantize_minmax(
            linear.weight, variant=settings.variant, granularity=granularity, name=linear.name
        )
        return _dequantized(made, dtype)
    options.pop("activation_symmetric", None)
    if takes_range(rule.type):
        one = np.ones(1, np.float32)
        options["input_params"] = InputParams(one, one)
    found = scheme.quantize(linear, variant=settings.variant, **options)
    return to_dtype(scheme.dequantize(found), dtype)


def _dequantized(made: IntegerWeight, dtype: np.dtype) -> NDArray:
    scale, offset = np.atleast_1d(made.scale), np.atleast_1d(made.offset)
    return to_dtype(dequantize_rows(made.q, scale, offset), dtype)

"""Run calibration texts through a float model, layer by layer; return what the quantizers need.

Memory is that of one layer and the hidden states of all texts. The Calibrator API ("v0") goes
through the whole model for each purpose: smoothing statistics, sensitivity and cache, ranges. The
one-click service ("v1") finishes a layer before it enters the next.

Source: math.md 2.1, 2.7, 8.0, 9.1; msmodelslim core/runner/generated_runner.py (V1 order),
pytorch/llm_ptq/llm_ptq_tools/quant_tools.py (V0 order).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import Checkpoint, CheckpointError
from slimspec.layout import base_label
from slimspec.model import Decoder, Encoder, FloatLinear, read_architecture
from slimspec.model.bert import EncoderLayer
from slimspec.model.config import ENCODERS
from slimspec.model.decoder import Layer
from slimspec.model.dtype import model_numerics
from slimspec.model.sdpa import attend_fused
from slimspec.observe.activation import HISTOGRAM, HISTOGRAM_UP_TO, MIN_MAX, MIXED
from slimspec.quantize.minmax import IntegerWeight
from slimspec.quantize.svd_lowrank import LowRank
from slimspec.schemes import InputParams, QuantizedAttention

from .calibration.attention import (
    ProjectionRecorder,
    StatesRecorder,
    cache_params,
    head_params,
    widest_attentions,
)
from .calibration.communication import SHARD, Communication, Parallel
from .calibration.fake_linear import CalibrationLinear, takes_range
from .calibration.gptq import by_gptq
from .calibration.inputs import Inputs
from .calibration.settings import Settings
from .calibration.source import FoldedWeights
from .fallback import Sensitivity, measure
from .recipe import KEEP, Rule
from .rotate_model import rotate_model, widen_mtp
from .rotate_online import OnlineRotations
from .service import ServiceRun
from .smooth_model import Subgraph, add_norm_biases, smooth_layer
from .solvers import WeightSolver

Tokens = Sequence[NDArray[np.int64]]
Progress = Callable[[int], None]  # called with the number of layers just done


@dataclass
class Calibration:
    """What a run found.

    Attributes:
        weights: of the model after smoothing; the writer reads tensors here.
        inputs: scale and offset of the input of every static linear.
        attention: C8 and FAQuant parameters by attention module.
        sensitivity: metrics of every linear, in order; empty if nothing asked for them.
        norms: RMSNorms that got a bias.
        smoothed: subgraphs with a scale folded in.
        rotation: of the residual stream, [hidden, hidden]; None for none.
        low_rank: factors of the float branches beside linears.
        communication: what simulated ranks sent, by row-parallel linear.
        reached: dtype of the input of each linear that one passed while its weight was made.
        made: weights that GPTQ made of the inputs of the one-click service.
        online: rotations that are left to the engine.
    """

    weights: FoldedWeights
    inputs: dict[str, InputParams] = field(default_factory=dict)
    attention: dict[str, list[QuantizedAttention]] = field(default_factory=dict)
    sensitivity: list[Sensitivity] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    smoothed: list[Subgraph] = field(default_factory=list)
    rotation: NDArray[np.float32] | None = None
    low_rank: dict[str, LowRank] = field(default_factory=dict)
    communication: dict[str, Communication] = field(default_factory=dict)
    reached: dict[str, np.dtype[Any]] = field(default_factory=dict)
    made: dict[str, IntegerWeight] = field(default_factory=dict)
    online: OnlineRotations | None = None


class CalibrationRun:
    """One float model and its texts.

    Attributes:
        result: what was found so far.
    """

    def __init__(
        self,
        float_model: Checkpoint,
        tokens: Tokens,
        settings: Settings,
        progress: Progress = lambda layers: None,
    ) -> None:
        """Open the model.

        Raises: CheckpointError: no text, an unreadable model or an unknown architecture.
        """
        if not tokens:
            raise CheckpointError("calibration: found no text, expected at least one")
        self.settings = settings
        self.tokens, self.progress = tokens, progress
        self.first_states: dict[str, dict[str, list[NDArray]]] = {}
        weights = FoldedWeights(float_model, settings.load_dtype)
        self.result = Calibration(weights)
        architecture = read_architecture(float_model.config, str(float_model.path))
        if settings.variant == "v1":
            widen_mtp(weights, architecture)
        if settings.rotation:
            self.result.rotation = rotate_model(
                weights, architecture, settings.rotation, defects=settings.defects
            )
        numerics = replace(model_numerics(float_model, settings.load_dtype), cpu=settings.cpu)
        attend = attend_fused if settings.fuses(latent=architecture.latent is not None) else None
        if settings.cache and architecture.latent:
            raise CheckpointError(
                f"{architecture.where}: latent attention caches no keys and values; set "
                "use_kvcache_quant False, or use_fa_quant True"
            )
        self.model: Decoder | Encoder
        if architecture.model_type in ENCODERS:
            self.model = Encoder(architecture, weights, numerics)
        else:
            self.model = Decoder(architecture, weights, numerics, attend=attend)

    @property
    def layers(self) -> int:
        """Number of layers of the model; MTP layers are not run."""
        return self.model.architecture.layers

    def smooth(self) -> None:
        """Smooth the whole model from its float inputs ("v0")."""
        self.result.norms = add_norm_biases(self.result.weights, self.settings)
        if not self.settings.anti_method:
            return
        for layer, seen, _ in self._float_layers():
            self.smooth_layer(layer, seen)

    def look(self, *, sensitivity: bool, head: bool = False) -> None:
        """Run the float model: sensitivity of every linear, and the cache's ranges ("v0").

        Args: head: also look at the input of lm_head.
        """
        recorder = ProjectionRecorder(FloatLinear(self.model.numerics))
        if self.settings.cache:
            self.model.linear = recorder
        last: list[NDArray] = []
        for _, seen, last in self._float_layers():  # noqa: B007
            if sensitivity:
                self.result.sensitivity += [measure(name, xs) for name, xs in seen.items()]
            for module, batches in recorder.seen.items():
                self._attention(module, cache_params(batches, module, self.settings))
            recorder.seen.clear()
        self.model.linear = None
        if head and sensitivity:
            seen = Inputs()
            self._head_inputs(last, seen)
            self.result.sensitivity += [measure(name, xs) for name, xs in seen.items()]

    def observe(
        self,
        rules: Mapping[str, Rule],
        *,
        solver: WeightSolver | None = None,
        parallel: Parallel | None = None,
    ) -> None:
        """Run the model as it will be quantized; find the input parameters of static linears.

        Args: solver: of weights that are not min-max; parallel: ranks to simulate ("v0").
        Raises: CheckpointError: a static linear that no text reaches.
        """
        if self.settings.variant == "v0":
            self._observe_v0(rules, solver, parallel)
        else:
            self._observe_v1(rules, solver)
        seen = {name.partition(SHARD)[0] for name in self.result.inputs}
        _refuse_unseen(
            [n for n, r in rules.items() if takes_range(r.type) and n not in seen],
            "has no input range: add texts, give it a dynamic type, or put it in disable_names",
        )
        if self.settings.variant == "v1":
            made = self.result.made
            _refuse_unseen(
                [n for n, r in rules.items() if by_gptq(r.options) and n not in made],
                "has no Hessian for GPTQ: add texts, give it another method, or exclude it",
            )

    def _observe_v0(
        self, rules: Mapping[str, Rule], solver: WeightSolver | None, parallel: Parallel | None
    ) -> None:
        linear = CalibrationLinear(
            self.model.numerics, rules, self.settings, self._method_of, solver, parallel
        )
        states = self._record_states()
        self.model.linear = linear
        last: list[NDArray] = []
        for layer, seen, last in self._float_layers():  # noqa: B007
            linear.next_layer()
            self._heads(layer, seen, states)
        self._behind_the_layers(rules, last)
        self.model.linear = None
        self.result.inputs = linear.params()
        self.result.communication = linear.communication
        self._keep_widest()

    def _behind_the_layers(self, rules: Mapping[str, Rule], hidden: list[NDArray]) -> None:
        """Run lm_head, or an encoder's pooler, where it is quantized too."""
        ends = {"lm_head": Decoder, "pooler.dense": Encoder}
        for name, kind in ends.items():
            if not isinstance(self.model, kind) or rules.get(name, Rule(name, KEEP)).type == KEEP:
                continue
            run = self.model.head if isinstance(self.model, Decoder) else self.model.pooled
            for h in hidden:
                run(h)

    def _observe_v1(self, rules: Mapping[str, Rule], solver: WeightSolver | None) -> None:
        if self.settings.attention or self.settings.cache:
            self._decoder()
        inner = {n: replace(r, type=base_label(r.type) or r.type) for n, r in rules.items()}
        linear = CalibrationLinear(
            self.model.numerics, inner, self.settings, self._method_of, solver
        )
        linear.branches = {} if self.settings.defects else self.result.low_rank
        ServiceRun(self, inner, linear).observe()
        self.result.reached, self.result.made = linear.reached, linear.gptq.made
        self._keep_widest()

    def _through(
        self, layer: Layer | EncoderLayer, hidden: list[NDArray]
    ) -> tuple[list[NDArray], Inputs]:
        seen = Inputs()
        return [layer(h, observe=seen) for h in hidden], seen

    def _float_layers(
        self,
    ) -> Iterable[tuple[Layer | EncoderLayer, Inputs, list[NDArray]]]:
        """Yield each layer, the inputs of its linears, and the hidden states behind it."""
        hidden = [self.model.embed(tokens) for tokens in self.tokens]
        for layer in self.model.layers():
            hidden, seen = self._through(layer, hidden)
            yield layer, seen, hidden
            self.progress(1)

    def smooth_layer(self, layer: Layer | EncoderLayer, seen: Inputs) -> None:
        """Fold the scales of one layer, found from the inputs of its linears."""
        done = smooth_layer(
            self.model.architecture, layer, self.result.weights, seen, self.settings
        )
        self.result.smoothed += done

    def _method_of(self, name: str) -> int:
        """act_method 1 or 2 of a linear; 3 chooses by its range_parm."""
        if self.settings.act_method != MIXED:
            return self.settings.act_method
        known = {row.name: row.range_parm for row in self.result.sensitivity}
        return HISTOGRAM if known.get(name, np.inf) <= HISTOGRAM_UP_TO else MIN_MAX

    def _head_inputs(self, hidden: list[NDArray], seen: Inputs) -> None:
        self.model.linear = lambda name, x, w, b: np.zeros((len(x), 1), x.dtype)
        for h in hidden:
            self._decoder().head(h, observe=seen)
        self.model.linear = None

    def _decoder(self) -> Decoder:
        if not isinstance(self.model, Decoder):
            where = self.model.architecture.where
            raise CheckpointError(f"{where}: an encoder has no cache, no lm_head and no FAQuant")
        return self.model

    def _record_states(self) -> StatesRecorder | None:
        if not self.settings.attention:
            return None
        self._decoder().states = recorder = StatesRecorder()
        return recorder

    def _heads(
        self, layer: Layer | EncoderLayer, seen: Inputs, states: StatesRecorder | None
    ) -> None:
        """Turn what was recorded of a layer's attention into parameters."""
        if states is None:
            return
        a, settings, weights = self.model.architecture, self.settings, self.result.weights
        for module, batches in states.seen.items():
            kv_b = f"{module}.kv_b_proj"
            stored = weights.stored(f"{kv_b}.weight") if a.latent else None
            found = head_params(batches, module, settings, a, seen.get(kv_b), stored)
            self._attention(module, found)
            self.first_states[module] = {role: xs[:1] for role, xs in batches.items()}
        states.seen.clear()

    def _attention(self, module: str, found: QuantizedAttention) -> None:
        self.result.attention.setdefault(module, []).append(found)

    def _keep_widest(self) -> None:
        """Drop FAQuant of the attentions that fa_amp keeps float."""
        if not self.settings.fa_amp:
            return
        for module in widest_attentions(self.first_states, self.settings.fa_amp):
            kept = [a for a in self.result.attention.get(module, []) if a.label != "FAQuant"]
            self.result.attention[module] = kept


def _refuse_unseen(unseen: list[str], lacks: str) -> None:
    if unseen:
        raise CheckpointError(
            f"{unseen[0]}: no calibration text reaches this linear ({len(unseen)} such), so it "
            f"{lacks}"
        )

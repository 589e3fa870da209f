"""The calibration run of the one-click service: a layer is finished before the next is entered.

    smooth from float inputs -> smooth keys -> prune
      -> ranges and Hessians, of all linears in one turn or in one after the other -> cache, FAQuant

Each step runs the layer anew on all texts; the outputs of the last run enter the next layer. The
layers that predict further tokens follow the others; they are not smoothed.

Source: math.md 2.7, 8.2, 9; msmodelslim core/runner/generated_runner.py,
processor/sparse/float_sparse.py, processor/quant/fa3/processor.py,
model/deepseek_v3/model_adapter.py:193-252.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slimspec.model import Decoder, following_tokens, rolled_positions
from slimspec.model.bert import EncoderLayer
from slimspec.model.decoder import Layer
from slimspec.model.mtp import MtpParts
from slimspec.model.norm import rms_norm
from slimspec.model.numerics import Numerics
from slimspec.numeric import as_float32, mul

from .calibration.attention import StatesRecorder, cache_params, states_params
from .calibration.fake_linear import BEHIND, CalibrationLinear, sees_texts
from .calibration.inputs import Inputs
from .calibration.settings import AttentionStep, CacheStep, KeyStep
from .prune_model import PRUNED, prune_layer
from .recipe import Rule
from .smooth_keys import check_keys, smooth_keys
from .smooth_model import own_norms
from .steps import matches

if TYPE_CHECKING:
    from .calibrate import CalibrationRun

AnyLayer = Layer | EncoderLayer


class ServiceRun:
    """Runs the steps on every layer of one model."""

    def __init__(
        self, run: CalibrationRun, rules: Mapping[str, Rule], linear: CalibrationLinear
    ) -> None:
        """Prepare. Args: run: the model and its texts; linear: computes a layer being quantized."""
        self._run, self._rules, self._linear = run, rules, linear
        self._settings = run.settings
        seeing = {rule.turn for rule in rules.values() if sees_texts(rule.type, rule.options)}
        self._turns = sorted(seeing)
        self._prunes = any(rule.type == PRUNED for rule in rules.values())
        self._norms: set[str] = set()
        self._cache = self._settings.cache_step or CacheStep()
        step = self._settings.attention_step
        self._step = step or AttentionStep() if self._settings.attention else None

    def observe(self) -> None:
        """Run everything; results go into `run.result`."""
        if self._settings.key_step is not None:
            check_keys(self._run.model.architecture)
        hidden = [self._run.model.embed(tokens) for tokens in self._run.tokens]
        for layer in self._run.model.layers():
            hidden = self._layer(layer, hidden, None, smooth=bool(self._settings.anti_method))
            self._run.progress(1)
        for parts, layer in self._predicting():
            entered, positions = self._entered(parts, hidden)
            hidden = self._layer(layer, entered, positions, smooth=False)
        self._run.result.inputs = self._linear.params()

    def _predicting(self) -> Iterator[tuple[MtpParts, Layer]]:
        """Layers that predict further tokens, where a step needs to see them."""
        model = self._run.model
        seen = self._turns or self._prunes or self._step is not None
        if seen and isinstance(model, Decoder) and model.architecture.mtp:
            yield from model.mtp_layers()

    def _layer(
        self,
        layer: AnyLayer,
        hidden: list[NDArray],
        positions: list[NDArray] | None,
        *,
        smooth: bool,
    ) -> list[NDArray]:
        """Do all steps on one layer; return its outputs."""
        out: list[NDArray] | None = None
        if smooth:
            self._norms |= own_norms(
                self._run.model.architecture, layer.name, self._run.result.weights, self._settings
            )
            out, seen = self._through(layer, hidden, positions)
            self._run.smooth_layer(layer, seen)
        if self._settings.key_step is not None:
            out = self._smooth_keys(self._settings.key_step, layer, hidden, positions)
        if self._prunes:
            seen = self._through(layer, hidden, positions)[1]
            prune_layer(self._run.result.weights, seen, self._rules, self._settings.prune_ratio)
            out = self._through(layer, hidden, positions)[0]
        early = self._step is not None and self._step.first
        if early:
            out = self._heads(layer, hidden, positions, None)
        for turn in self._turns:
            self._linear.start(turn)
            out = self._through(layer, hidden, positions, self._linear)[0]
        self._linear.start(BEHIND)
        if (self._step is not None and not early) or self._settings.cache:
            out = self._heads(layer, hidden, positions, self._linear)
        self._linear.next_layer()
        return self._through(layer, hidden, positions)[0] if out is None else out

    def _smooth_keys(
        self,
        step: KeyStep,
        layer: AnyLayer,
        hidden: list[NDArray],
        positions: list[NDArray] | None,
    ) -> list[NDArray]:
        """Fold the scales of the keys of one layer; return its outputs before."""
        states, run = StatesRecorder(), self._run
        out, _ = self._through(layer, hidden, positions, None, states)
        for module, batches in states.seen.items():
            if matches(module, step.include, step.exclude):
                architecture, weights = run.model.architecture, run.result.weights
                smooth_keys(weights, architecture, module, batches["k"], step.factor)
        return out

    def _through(
        self,
        layer: AnyLayer,
        hidden: list[NDArray],
        positions: list[NDArray] | None,
        linear: CalibrationLinear | None = None,
        states: StatesRecorder | None = None,
    ) -> tuple[list[NDArray], Inputs]:
        """Run one layer with fresh tensors; return its outputs and the inputs of its linears."""
        absorb = self._absorbs if states is not None else None
        scope = replace(
            layer.scope,
            linear_of=linear,
            states=states,
            turns=self._run.model.numerics.dtype,
            absorb=absorb,
            own_norms=self._norms,
            _tensors={},
        )
        fresh = replace(layer, scope=scope)
        seen = Inputs()
        if isinstance(fresh, EncoderLayer):
            return [fresh(h, observe=seen) for h in hidden], seen
        if positions is None:
            return [fresh(h, observe=seen) for h in hidden], seen
        pairs = zip(hidden, positions, strict=True)
        return [fresh(h, positions=p, observe=seen) for h, p in pairs], seen

    def _absorbs(self, module: str) -> bool:
        """True for an attention whose queries meet the latent itself, as FAQuant wants it."""
        step = self._step
        return step is not None and matches(module, step.include, step.exclude)

    def _heads(
        self,
        layer: AnyLayer,
        hidden: list[NDArray],
        positions: list[NDArray] | None,
        linear: CalibrationLinear | None,
    ) -> list[NDArray]:
        """Turn what attention holds into parameters of cache and FAQuant; return the outputs."""
        states = StatesRecorder()
        out, _ = self._through(layer, hidden, positions, linear, states)
        result, settings, step = self._run.result, self._settings, self._step
        for module, batches in states.seen.items():
            found = result.attention.setdefault(module, [])
            if settings.cache and matches(module, self._cache.include, self._cache.exclude):
                found.append(cache_params(batches, module, settings))
            if step is not None and self._absorbs(module):
                found.append(states_params(batches, module, step))
                self._run.first_states[module] = {role: xs[:1] for role, xs in batches.items()}
        return out

    def _entered(
        self, parts: MtpParts, hidden: list[NDArray]
    ) -> tuple[list[NDArray], list[NDArray]]:
        """What enters a predicting layer, float32, and the rotary positions, per text.

        Its parts are float32 modules between 16-bit ones: a norm of 16-bit states rounds them
        before its weight is applied, everything else is float32.
        """
        model = self._run.model
        assert isinstance(model, Decoder)
        wide = Numerics(np.float32)
        scope, name = replace(parts.scope, numerics=wide), parts.name
        inner = MtpParts(name, scope)
        entered, places = [], []
        for h, tokens in zip(hidden, self._run.tokens, strict=True):
            last = int(np.argmax(as_float32(model.head(h)[-1])))
            following = following_tokens(np.asarray(tokens), last)
            embedded = scope.rms_norm(f"{name}.enorm", inner.embedded(following))
            ones = np.ones(h.shape[1], h.dtype)
            weight = scope.parameter(f"{name}.hnorm.weight", (h.shape[1],))
            states = mul(rms_norm(h, ones, model.architecture.eps), weight, np.float32)
            x = np.concatenate([embedded, states], axis=1)  # (t, 2 · hidden)
            entered.append(scope.linear(f"{name}.eh_proj", x, model.architecture.hidden))
            places.append(rolled_positions(len(h)))
        return entered, places


__all__ = ["ServiceRun"]

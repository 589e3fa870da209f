"""A decoder: tokens to logits, layer by layer, with an observer at every linear.

    h = embed(tokens);  h += attention(norm(h));  h += mlp(norm(h));  logits = head(norm(h))

Source: transformers models/llama/modeling_llama.py (LlamaModel); module names are those of the
checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.numeric import add
from slimspec.quantize.affine import common_dtype

from .attention import grouped_query_attention
from .cache import KVCache
from .config import ENCODERS, Architecture, read_architecture
from .dtype import model_numerics
from .loader import Weights
from .mla import latent_attention
from .mlp import gated_mlp
from .moe import mixture
from .mtp import MtpParts, mtp_prefixes
from .numerics import Numerics
from .scope import Attend, Linear, Observe, Scope, States
from .sdpa import attend_fused


@dataclass
class Layer:
    """One decoder layer in use; its tensors go with it.

    Attributes:
        index: number of the layer.
        name: module name, e.g. "model.layers.0".
        scope: its weights, linear and observer.
    """

    index: int
    name: str
    scope: Scope

    def __call__(
        self,
        h: NDArray,
        positions: NDArray[np.int64] | None = None,
        cache: KVCache | None = None,
        observe: Observe | None = None,
    ) -> NDArray:
        """h + attention(norm(h)), then h + mlp(norm(h)).

        Args:
            h: (t, hidden) of T.
            positions: (t,), default 0, 1, ..
            cache: earlier keys and values, extended.
            observe: sees the input of every linear.

        Returns:
            (t, hidden) of T.
        """
        scope, a = self.scope, self.scope.architecture
        scope.observe = observe
        positions = np.arange(len(h)) if positions is None else positions
        attention = latent_attention if a.latent else grouped_query_attention
        x = scope.rms_norm(f"{self.name}.input_layernorm", h)
        y = attention(scope, self.index, f"{self.name}.self_attn", x, positions, cache)
        h = add(h, y, common_dtype(h, y))
        x = scope.rms_norm(f"{self.name}.post_attention_layernorm", h)
        routed = a.experts is not None and self.index not in a.experts.dense
        y = (mixture if routed else gated_mlp)(scope, f"{self.name}.mlp", x)
        return add(h, y, common_dtype(h, y))


class Decoder:
    """A decoder over the weights of a checkpoint.

    Attributes:
        architecture: sizes and kinds.
        weights: tensors by name.
        numerics: the dtype policy.
        linear: computes every linear; None for the float one.
        states: sees and may replace q, k and v of every attention.
        attend: computes every attention; None for the eager one.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        numerics: Numerics,
        linear: Linear | None = None,
        states: States | None = None,
        attend: Attend | None = None,
    ) -> None:
        if architecture.model_type in ENCODERS:
            raise CheckpointError(f"{architecture.where}: {architecture.model_type} is an encoder")
        self.architecture = architecture
        self.weights = weights
        self.numerics = numerics
        self.linear = linear
        self.states = states
        self.attend = attend

    @classmethod
    def open(
        cls,
        path: str | Path,
        dtype: DTypeLike | None = None,
        *,
        fused_attention: bool = False,
        linear: Linear | None = None,
        states: States | None = None,
    ) -> Decoder:
        """Open a Hugging Face directory.

        Args:
            path: the directory (config.json and *.safetensors).
            dtype: of activations, default the model's own; numpy dtype.
            fused_attention: as transformers' "sdpa" (its default, and that of the producer's
                one-click pipeline) instead of "eager".
            linear: replaces the float linear (quantized directories need one).
            states: replaces q, k and v.

        Raises:
            CheckpointError: unreadable, or an architecture that is not implemented.
        """
        checkpoint = open_checkpoint(path)
        architecture = read_architecture(checkpoint.config, str(path))
        numerics = model_numerics(checkpoint, dtype)
        attend = attend_fused if fused_attention else None
        return cls(architecture, Weights(checkpoint), numerics, linear, states, attend)

    def embed(self, tokens: ArrayLike) -> NDArray:
        """Rows of the embedding table. Args: tokens (t,) integers. Returns: (t, hidden) of T."""
        ids = np.asarray(tokens)
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not ids.size:
            raise ValueError(
                f"tokens: found {ids.dtype} {ids.shape}, expected integers (t,), t > 0"
            )
        return self._scope().embedding("model.embed_tokens", ids)

    def layers(self, first: int = 0) -> Iterator[Layer]:
        """Yield the layers from `first` on; memory is that of one, if the caller keeps none."""
        for index in range(first, self.architecture.layers):
            yield Layer(index, f"model.layers.{index}", self._scope())

    def head(self, h: NDArray, observe: Observe | None = None) -> NDArray:
        """Logits: lm_head(norm(h)), the embedding table where the two are tied.

        Args: h (t, hidden) of T. Returns: (t, vocabulary) of T.
        """
        scope = self._scope()
        scope.observe = observe
        x = scope.rms_norm("model.norm", h)
        if self.architecture.tied and "lm_head.weight" not in self.weights:
            scope.alias("lm_head.weight", "model.embed_tokens.weight")
        return scope.linear("lm_head", x, self.architecture.vocabulary)

    def forward(
        self,
        tokens: ArrayLike,
        observe: Observe | None = None,
        cache: KVCache | None = None,
    ) -> NDArray:
        """Logits of every position.

        Args:
            tokens: (t,) integers, those that follow the cache.
            observe: called with the name and the input (t, k) of every linear, in order.
            cache: keys and values of earlier tokens, extended; None for a whole text.

        Returns:
            (t, vocabulary) of T.

        Raises:
            CheckpointError: a tensor is missing or misshapen, or a token is not in the table.
            ValueError: tokens are no integers (t,).
        """
        h = self.embed(tokens)
        start = 0 if cache is None else len(cache)
        positions = np.arange(start, start + len(h))
        for layer in self.layers():
            h = layer(h, positions, cache, observe)
        return self.head(h, observe)

    def generate(self, tokens: ArrayLike, count: int) -> list[int]:
        """Append `count` tokens, each the one with the largest logit. Returns: the new ones."""
        cache, new = KVCache(), list[int]()
        step = np.asarray(tokens)
        for _ in range(count):
            logits = self.forward(step, cache=cache)[-1]
            new.append(int(np.argmax(logits.astype(np.float32))))
            step = np.array(new[-1:])
        return new

    def mtp_layers(self) -> Iterator[tuple[MtpParts, Layer]]:
        """Yield each multi-token prediction layer: its input and output parts, and its body."""
        prefixes = mtp_prefixes(self.architecture, self.weights)
        for i, prefix in enumerate(prefixes):
            index = self.architecture.layers + i
            body = Layer(index, f"model.layers.{index}", self._scope())
            yield MtpParts(prefix, body.scope), body

    def _scope(self) -> Scope:
        return Scope(
            self.architecture,
            self.weights,
            self.numerics,
            self.linear,
            states=self.states,
            attend=self.attend,
        )

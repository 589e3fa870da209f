"""BERT as an encoder: tokens to hidden states, and sentence embeddings by mean pooling.

    h = norm(words + types + places);  h = norm(h + out(attention(h)));  h = norm(h + mlp(h))

Source: transformers models/bert/modeling_bert.py (post-norm layers, biased linears, GELU);
sentence-transformers models/Pooling (mean over tokens) and Normalize.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.numeric import add, as_float32, mul
from slimspec.numeric.reduction import cascade_mean

from .attention import attend, split_heads
from .config import ENCODERS, Architecture, read_architecture
from .dtype import model_numerics
from .loader import Weights
from .numerics import Numerics
from .scope import Linear, Observe, Scope


@dataclass
class EncoderLayer:
    """One encoder layer in use. Attributes: name of the module; scope."""

    name: str
    scope: Scope

    def __call__(self, h: NDArray, observe: Observe | None = None) -> NDArray:
        """Attention, then feed-forward, each added and normalised. Args: h (t, hidden) of T."""
        scope, hidden = self.scope, self.scope.architecture.hidden
        scope.observe = observe
        attention = f"{self.name}.attention"
        y = scope.linear(f"{attention}.output.dense", self._attend(h), hidden, bias=True)
        h = scope.layer_norm(f"{attention}.output.LayerNorm", add(y, h, h.dtype))
        width = scope.weights.rows(f"{self.name}.intermediate.dense.weight")
        x = scope.linear(f"{self.name}.intermediate.dense", h, width, bias=True)
        x = scope.numerics.gelu(x)
        y = scope.linear(f"{self.name}.output.dense", x, hidden, bias=True)
        return scope.layer_norm(f"{self.name}.output.LayerNorm", add(y, h, h.dtype))

    def _attend(self, h: NDArray) -> NDArray:
        a = self.scope.architecture
        q, k, v = (
            split_heads(
                self.scope.linear(f"{self.name}.attention.self.{part}", h, a.hidden, bias=True),
                a.heads,
            )
            for part in ("query", "key", "value")
        )
        return attend(q, k, v, a.softmax_scale, None, self.scope.numerics)


class Encoder:
    """A BERT encoder over the weights of a checkpoint.

    Attributes:
        architecture: sizes.
        weights: tensors by name.
        numerics: the dtype policy.
        linear: computes every linear; None for the float one.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        numerics: Numerics,
        linear: Linear | None = None,
    ) -> None:
        if architecture.model_type not in ENCODERS:
            raise CheckpointError(f"{architecture.where}: {architecture.model_type} is a decoder")
        self.architecture = architecture
        self.weights = weights
        self.numerics = numerics
        self.linear = linear

    @classmethod
    def open(
        cls, path: str | Path, dtype: DTypeLike | None = None, *, linear: Linear | None = None
    ) -> Encoder:
        """Open a Hugging Face directory; arguments and errors as `Decoder.open`."""
        checkpoint = open_checkpoint(path)
        architecture = read_architecture(checkpoint.config, str(path))
        return cls(architecture, Weights(checkpoint), model_numerics(checkpoint, dtype), linear)

    def embed(self, tokens: ArrayLike) -> NDArray:
        """Normalised sum of the word, type-0 and place embeddings. Returns: (t, hidden) of T."""
        ids = np.asarray(tokens)
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not ids.size:
            raise ValueError(
                f"tokens: found {ids.dtype} {ids.shape}, expected integers (t,), t > 0"
            )
        scope, parts = self._scope(), "embeddings"
        words = scope.embedding(f"{parts}.word_embeddings", ids)
        types = scope.embedding(f"{parts}.token_type_embeddings", np.zeros_like(ids))
        places = scope.embedding(f"{parts}.position_embeddings", np.arange(len(ids)))
        h = add(add(words, types, words.dtype), places, words.dtype)
        return scope.layer_norm(f"{parts}.LayerNorm", h)

    def layers(self) -> Iterator[EncoderLayer]:
        """Yield the layers; memory is that of one, if the caller keeps none."""
        for index in range(self.architecture.layers):
            yield EncoderLayer(f"encoder.layer.{index}", self._scope())

    def forward(self, tokens: ArrayLike, observe: Observe | None = None) -> NDArray:
        """Hidden states of one text.

        Args: tokens (t,) integers; observe: sees the name and input of every linear.
        Returns: (t, hidden) of T.
        Raises: CheckpointError, ValueError: as `Decoder.forward`.
        """
        h = self.embed(tokens)
        for layer in self.layers():
            h = layer(h, observe)
        return h

    def pooled(self, h: NDArray, observe: Observe | None = None) -> NDArray:
        """tanh(pooler(first token)). Args: h (t, hidden) of T. Returns: (1, hidden) of T."""
        scope = self._scope()
        scope.observe = observe
        y = scope.linear("pooler.dense", h[:1], self.architecture.hidden, bias=True)
        return self.numerics.round(np.tanh(as_float32(y)))

    def sentence(self, tokens: ArrayLike, observe: Observe | None = None) -> NDArray:
        """Mean of the hidden states over the tokens, at unit length. Returns: (hidden,) of T."""
        mean = cascade_mean(np.ascontiguousarray(self.forward(tokens, observe).T))  # (hidden,)
        wide = as_float32(mean)
        length = np.sqrt(np.dot(wide, wide))
        return mul(wide, np.float32(1) / np.maximum(length, np.float32(1e-12)), mean.dtype)

    def _scope(self) -> Scope:
        return Scope(self.architecture, self.weights, self.numerics, self.linear)

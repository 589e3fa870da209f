"""Multi-token prediction of DeepSeek-V3: one more layer that predicts the token after the next.

    h' = eh_proj([enorm(embed(next token)), hnorm(h)]);  body(h');  logits = head(norm(h'))

h is the hidden state behind the last decoder layer, before the final norm.

Source: arXiv 2412.19437 section 2.2; msmodelslim model/deepseek_v3/model_adapter.py:193-252
(mtp_preprocess) and mtp_quant_module.py:55-128 (rolled positions, names of the parts).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError

from .config import Architecture
from .loader import Weights
from .scope import Observe, Scope

SUFFIX = ".eh_proj.weight"


@dataclass
class MtpParts:
    """What a multi-token prediction layer has beside its body.

    Attributes:
        name: module that holds the parts, e.g. "model.layers.61".
        scope: the layer in use.
    """

    name: str
    scope: Scope

    def enter(self, h: NDArray, following: NDArray, observe: Observe | None = None) -> NDArray:
        """eh_proj([enorm(embed(following)), hnorm(h)]).

        Args: h (t, hidden) of T; following (t,) the token after each. Returns: (t, hidden) of T.
        """
        self.scope.observe = observe
        parts = (
            self.scope.rms_norm(f"{self.name}.enorm", self.embedded(following)),
            self.scope.rms_norm(f"{self.name}.hnorm", h),
        )
        x = np.concatenate(parts, axis=1)  # (t, 2 · hidden)
        return self.scope.linear(f"{self.name}.eh_proj", x, self.scope.architecture.hidden)

    def embedded(self, following: NDArray) -> NDArray:
        """Rows of the layer's own table, or of the model's. Returns: (t, hidden) of T."""
        return self.scope.embedding(self._table(), following)

    def head(self, h: NDArray, observe: Observe | None = None) -> NDArray:
        """shared_head: logits of the token after the next. Returns: (t, vocabulary) of T."""
        self.scope.observe = observe
        x = self.scope.rms_norm(f"{self.name}.shared_head.norm", h)
        return self.scope.linear(
            f"{self.name}.shared_head.head", x, self.scope.architecture.vocabulary
        )

    def _table(self) -> str:
        own = f"{self.name}.embed_tokens"
        return own if f"{own}.weight" in self.scope.weights else "model.embed_tokens"


def following_tokens(tokens: NDArray[np.int64], last: int) -> NDArray[np.int64]:
    """The token after each one; `last` follows the last. Args: tokens (t,). Returns: (t,)."""
    return np.append(tokens[1:], last)


def rolled_positions(count: int) -> NDArray[np.int64]:
    """1, 2, .., count − 1, 0: the rotary positions that the producer gives this layer."""
    return np.roll(np.arange(count), -1)


def mtp_prefixes(architecture: Architecture, weights: Weights) -> list[str]:
    """Modules that hold eh_proj and its neighbours, as many as config.json says.

    Raises:
        CheckpointError: the checkpoint has another number of them.
    """
    found = [
        name.removesuffix(SUFFIX)
        for name in weights.names()
        if name.startswith("model.layers.") and name.endswith(SUFFIX)
    ]
    if len(found) != architecture.mtp:
        raise CheckpointError(
            f"{weights.checkpoint.path}: tensor 'model.layers.*{SUFFIX}': found {len(found)}, "
            f"expected {architecture.mtp} (num_nextn_predict_layers)"
        )
    return sorted(
        found, key=lambda name: int(name.split(".")[2]) if name.split(".")[2].isdecimal() else 0
    )

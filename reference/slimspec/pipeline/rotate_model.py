"""QuaRot on a whole model: the residual stream, and what attention keeps, in rotated coordinates.

Weights of norms go into the linears behind them first, so that a rotation passes through the norm:

    embedding        W·R               readers of the stream   (W·diag(g))·R
    writers to it    Rᵀ·W              values                  V_hᵀ·W per head;  o_proj: W·V
    latents (MLA)    rows Lᵀ·W, columns W·L, for the queries' and the keys' latent each

The outputs of the float model stay the same; R is written beside the weights, the others are not.

Source: math.md 11.1; measured on recorded directories (order of the products: rows of values and
writers before columns, rows of latents after columns); msmodelslim
processor/quarot/offline_quarot/quarot.py:70-118, qwen3_get_rotate_map of
model/qwen3/model_adapter.py, get_rotate_map and get_ln_fuse_map of model/deepseek_v3/quarot.py.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.model import Architecture
from slimspec.model.mtp import mtp_prefixes
from slimspec.numeric import as_float32, to_dtype
from slimspec.smooth.hadamard import RotationMode, rotate_inputs, rotate_outputs, rotation

from .calibration.source import Fold, FoldedWeights

SHIFTED_HEADS = ("qwen2",)  # whose heads take the shifted form
MLP = ".mlp"
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
MTP_PARTS = ("enorm", "hnorm", "eh_proj", "embed_tokens", "shared_head.norm", "shared_head.head")


@dataclass(frozen=True)
class Turn:
    """A rotation of a weight's columns ("inputs") or of its rows, and its bias ("outputs").

    Attributes:
        rows: of each block of `per` rows only those from `rows[0]` up to `rows[1]`; None for all.
    """

    side: str
    matrix: NDArray[np.float32]
    rows: tuple[int, int, int] | None = None

    def __call__(self, x: NDArray) -> NDArray:
        """The rotated tensor, dtype and shape of x."""
        if self.side == "inputs":
            return rotate_inputs(x, self.matrix)
        if self.rows is None:
            return rotate_outputs(x, self.matrix)
        first, last, per = self.rows
        blocks = x.reshape(-1, per, *x.shape[1:]).copy()  # (n // per, per, ...)
        part = np.ascontiguousarray(blocks[:, first:last])
        turned = rotate_outputs(part.reshape(-1, *x.shape[1:]), self.matrix)
        blocks[:, first:last] = turned.reshape(part.shape)
        return blocks.reshape(x.shape)


def rotate_model(
    weights: FoldedWeights, a: Architecture, block_size: int = -1, *, defects: bool = False
) -> NDArray[np.float32]:
    """Put the rotations into the folds of every tensor; return that of the residual stream.

    A head tied to the embedding takes the last norm's weight, the embedding does not: it becomes a
    tensor of its own, and config.json says so.

    Args: block_size: of the blocks along the diagonal, -1 for one block; defects: do as the tool,
        which leaves them one tensor and folds into it what either would take: (E·R·diag(g))·R. The
        model is broken then.
    Returns: [hidden, hidden]. Raises: CheckpointError: a model it does not suit, a size without a
        Hadamard matrix or that the block does not divide.
    """
    if a.model_type == "bert":
        raise CheckpointError(f"{a.where}: rotate: an encoder with LayerNorm cannot be rotated")
    if a.tied and not defects:
        weights.untie(f"{HEAD}.weight", f"{EMBEDDING}.weight")
    head = EMBEDDING if a.tied and defects else HEAD
    return _Model(weights, a, block_size, head).rotate()


def widen_mtp(weights: FoldedWeights, a: Architecture) -> None:
    """Load the parts of multi-token prediction layers as float32, as the one-click service does.

    Source: measured on recorded directories; msmodelslim model/deepseek_v3/mtp_quant_module.py.
    """
    if not a.mtp:
        return
    for prefix in mtp_prefixes(a, weights):
        for part in MTP_PARTS:
            name = f"{prefix}.{part}.weight"
            if name in weights:
                weights.uncast.add(name)
                weights.folds[name].append(as_float32)


class _Model:
    """Writes folds for one model."""

    def __init__(self, weights: FoldedWeights, a: Architecture, block_size: int, head: str) -> None:
        self._weights, self._a, self._block, self._head = weights, a, block_size, head
        self._inner: dict[str, list[str]] = defaultdict(list)  # of "model.layers.N.mlp"
        for name in weights.names():
            layer, found, inner = name.partition(MLP)
            if found and inner.endswith(".weight"):
                self._inner[f"{layer}{MLP}"].append(name.removesuffix(".weight"))

    def rotate(self) -> NDArray[np.float32]:
        a = self._a
        self._stream = self._matrix("hidden_size", a.hidden)
        self._turn(EMBEDDING, "inputs", self._stream)
        self._read("model.norm", self._head)
        for layer in range(a.layers + a.mtp):
            self._layer(f"model.layers.{layer}")
        for prefix in mtp_prefixes(a, self._weights) if a.mtp else ():
            self._prediction(prefix)
        return self._stream

    def _layer(self, layer: str) -> None:
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        if self._a.latent:
            self._latent_attention(layer, attention)
        else:
            self._attention(layer, attention)
        norm = f"{layer}.post_attention_layernorm"
        self._read(norm, *self._modules(mlp, ("gate_proj", "up_proj", "gate")))
        for name in self._modules(mlp, ("down_proj",)):
            self._turn(name, "outputs", self._stream)

    def _attention(self, layer: str, attention: str) -> None:
        shifted = self._a.model_type in SHIFTED_HEADS
        heads = self._matrix("head_dim", self._a.head_dim, shifted=shifted)
        self._read(
            f"{layer}.input_layernorm", *(f"{attention}.{part}_proj" for part in ("q", "k", "v"))
        )
        self._turn(f"{attention}.v_proj", "outputs", heads)
        self._turn(f"{attention}.o_proj", "outputs", self._stream)
        self._turn(f"{attention}.o_proj", "inputs", heads)

    def _latent_attention(self, layer: str, attention: str) -> None:
        sizes = self._a.latent
        assert sizes is not None
        values = self._matrix("v_head_dim", sizes.value)
        keys = self._matrix("kv_lora_rank", sizes.kv_rank)
        first = "q_a_proj" if sizes.q_rank else "q_proj"
        self._read(
            f"{layer}.input_layernorm", f"{attention}.{first}", f"{attention}.kv_a_proj_with_mqa"
        )
        if sizes.q_rank:
            queries = self._matrix("q_lora_rank", sizes.q_rank, shifted=True)
            self._turn(f"{attention}.q_a_proj", "outputs", queries)
            self._fuse(f"{attention}.q_a_layernorm", f"{attention}.q_b_proj")
            self._turn(f"{attention}.q_b_proj", "inputs", queries)
        rows = (0, sizes.kv_rank, sizes.kv_rank + sizes.rope)
        self._turn(f"{attention}.kv_a_proj_with_mqa", "outputs", keys, rows)
        self._fuse(f"{attention}.kv_a_layernorm", f"{attention}.kv_b_proj")
        per_head = sizes.nope + sizes.value
        self._turn(f"{attention}.kv_b_proj", "outputs", values, (sizes.nope, per_head, per_head))
        self._turn(f"{attention}.kv_b_proj", "inputs", keys)
        self._turn(f"{attention}.o_proj", "outputs", self._stream)
        self._turn(f"{attention}.o_proj", "inputs", values)

    def _prediction(self, prefix: str) -> None:
        """The parts of a multi-token prediction layer; eh_proj reads two streams."""
        weights, join = self._weights, f"{prefix}.eh_proj"
        norms = [f"{prefix}.{part}.weight" for part in ("enorm", "hnorm")]
        both = np.concatenate([weights.stored(name) for name in norms])
        weights.folds[f"{join}.weight"].append(Fold("columns", both, "v1"))
        for name in norms:
            self._ones(name)
        self._turn(join, "outputs", self._stream)
        self._turn(join, "inputs", self._stream)
        self._turn(f"{prefix}.embed_tokens", "inputs", self._stream)
        self._read(f"{prefix}.shared_head.norm", f"{prefix}.shared_head.head")

    def _read(self, norm: str, *readers: str) -> None:
        """Readers of the stream behind a norm: its weight, then the rotation."""
        self._fuse(norm, *readers)
        for name in readers:
            self._turn(name, "inputs", self._stream)

    def _fuse(self, norm: str, *readers: str) -> None:
        gain = self._weights.stored(f"{norm}.weight").copy()
        for name in readers:
            if f"{name}.weight" in self._weights:
                self._weights.folds[f"{name}.weight"].append(Fold("columns", gain, "v1"))
        self._ones(f"{norm}.weight")

    def _ones(self, name: str) -> None:
        self._weights.folds[name].append(_ones_like)

    def _turn(
        self,
        module: str,
        side: str,
        matrix: NDArray[np.float32],
        rows: tuple[int, int, int] | None = None,
    ) -> None:
        turn = Turn(side, matrix, rows)
        for suffix in ("weight", "bias") if side == "outputs" else ("weight",):
            if f"{module}.{suffix}" in self._weights:
                self._weights.folds[f"{module}.{suffix}"].append(turn)

    def _modules(self, parent: str, endings: tuple[str, ...]) -> list[str]:
        """Linears below a module whose last part is one of `endings`."""
        return [m for m in self._inner[parent] if m.rpartition(".")[2] in endings]

    def _matrix(self, member: str, size: int, *, shifted: bool = False) -> NDArray[np.float32]:
        mode = RotationMode.BLOCK_HADAMARD_SHIFTED if shifted else RotationMode.HADAMARD
        try:
            return rotation(size, mode=mode, block_size=self._block)
        except ValueError as error:
            raise CheckpointError(
                f"{self._a.where}: rotate: {member} {size}: {error}; give another block_size"
            ) from None


def _ones_like(x: NDArray) -> NDArray:
    return to_dtype(np.ones(x.shape, np.float32), x.dtype)


__all__ = ["rotate_model", "widen_mtp"]

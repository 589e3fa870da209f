"""What quantization cost, and where: a float and a quantized model on the same text, side by side.

    SQNR    10·log10(Σ y² / Σ (y - ŷ)²) of each linear's output, in dB
    cosine  mean over tokens of cos(y, ŷ)
    KL      mean over tokens of Σ p·log(p / p̂) of the next token
    perplexity  e^(mean of -log p(next token)), both models

The quantized model runs on its own integers (`Scheme.forward`), its errors add up from layer to
layer. An expert is compared on the tokens that both models send to it. Memory is one layer of both
models and the hidden states of all texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimspec import layout, schemes
from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from slimspec.matmul.reduce_quant import reduce_quantized
from slimspec.model import Decoder, Encoder, FloatLinear, Weights, read_architecture
from slimspec.model.bert import EncoderLayer
from slimspec.model.config import ENCODERS
from slimspec.model.decoder import Layer
from slimspec.model.dtype import model_numerics
from slimspec.numeric import as_float32, to_dtype
from slimspec.schemes import QuantizedLinear
from slimspec.schemes.c8 import C8

Tokens = Sequence[NDArray[np.int64]]
Model = Decoder | Encoder


@dataclass
class LinearCost:
    """What became of the output of one linear, over all tokens."""

    name: str
    label: str
    signal: float = 0.0
    noise: float = 0.0
    cosines: list[float] = field(default_factory=list)

    @property
    def sqnr(self) -> float:
        """In dB; infinite where nothing changed."""
        if not self.noise:
            return float("inf")
        return 10 * float(np.log10(self.signal / self.noise)) if self.signal else float("-inf")

    @property
    def cosine(self) -> float:
        """Mean over tokens."""
        return float(np.mean(self.cosines)) if self.cosines else float("nan")

    def add(self, y: NDArray, other: NDArray) -> None:
        """Add the outputs of one text, (t, n) of both models."""
        a, b = as_float32(y).astype(np.float64), as_float32(other).astype(np.float64)
        self.signal += float((a**2).sum())
        self.noise += float(((a - b) ** 2).sum())
        self.cosines += cosines(a, b).tolist()


@dataclass
class Evaluation:
    """The costs of a quantized directory.

    Attributes:
        linears: in the order they run.
        tokens: how many were run.
        kl, agreement: of the next token; NaN for an encoder.
        perplexity: of the float and of the quantized model; NaN for an encoder.
        embedding: cosines of the sentence embeddings of an encoder, one per text.
    """

    linears: list[LinearCost] = field(default_factory=list)
    tokens: int = 0
    kl: float = float("nan")
    agreement: float = float("nan")
    perplexity: tuple[float, float] = (float("nan"), float("nan"))
    embedding: list[float] = field(default_factory=list)


class QuantizedLinears:
    """Computes the linears of a quantized directory from its integers."""

    def __init__(self, checkpoint: Checkpoint, model: Model) -> None:
        description = checkpoint.description
        assert description is not None
        self._labels = description.labels
        self._profile = checkpoint.profile.name or "A1"
        self._checkpoint = checkpoint
        self._float = FloatLinear(model.numerics)
        self._kept: dict[str, QuantizedLinear] = {}

    def label(self, name: str) -> str:
        """The type of a linear."""
        return self._labels.get(f"{name}.weight", "FLOAT")

    def next_layer(self) -> None:
        """Forget the linears of the layer before."""
        self._kept.clear()

    def __call__(self, name: str, x: NDArray, w: NDArray, b: NDArray | None) -> NDArray:
        """Return y (t, n) of T for x (t, k) of T."""
        label = self.label(name)
        if label == "FLOAT":
            return self._float(name, x, w, b)
        try:
            shards = self._shards(name)
            if shards:
                return self._summed(name, label, shards, x)
            return self._forward(name, label, x)
        except ValueError as error:
            raise CheckpointError(f"{self._checkpoint.path}: {name}: {error}") from None

    def _forward(self, name: str, label: str, x: NDArray) -> NDArray:
        if name not in self._kept:
            self._kept[name] = self._read(name, label)
        return schemes.get(label).forward(self._kept[name], x)

    def _shards(self, name: str) -> list[str]:
        """The linears of the ranks, where the directory has communication quantization."""
        names = (f"{name}.tp_list.{rank}" for rank in count())
        return list(takewhile(lambda n: f"{n}.weight" in self._checkpoint.table, names))

    def _summed(self, name: str, label: str, shards: list[str], x: NDArray) -> NDArray:
        """The outputs of all ranks, added up as they send them."""
        columns = np.split(x, len(shards), axis=1)  # (t, k / ranks) each
        outputs = (self._forward(s, label, part) for s, part in zip(shards, columns, strict=True))
        partial = np.stack([as_float32(y) for y in outputs])  # (ranks, t, n)
        if f"{name}.gather_scale" not in self._checkpoint.table:
            return to_dtype(partial.sum(axis=0), x.dtype)
        whole = f"{name}.reduce_scale"
        own = [f"{whole}.{rank}" for rank in range(len(shards))]
        own = [whole] if whole in self._checkpoint.table else own
        reduce, gather = (
            np.stack([as_float32(self._checkpoint.tensor(n)) for n in names])
            for names in (own, [f"{name}.gather_scale"])
        )
        return to_dtype(reduce_quantized(partial, reduce, gather[0]), x.dtype)

    def _read(self, name: str, label: str) -> QuantizedLinear:
        present = (
            suffix
            for suffix in layout.rules(label, self._profile)
            if f"{name}.{suffix}" in self._checkpoint.table
        )
        tensors = {suffix: self._checkpoint.tensor(f"{name}.{suffix}") for suffix in present}
        return schemes.get(label).from_tensors(tensors, self._profile, name)


class Outputs(dict[str, NDArray]):
    """Keeps the output of every linear of one layer and one text, and the tokens of experts."""

    def __init__(self) -> None:
        self.tokens: dict[str, NDArray] = {}  # expert -> which tokens it got

    def routed(self, expert: str, rows: NDArray) -> None:
        """Keep which tokens an expert gets."""
        self.tokens[expert] = rows

    def forget(self) -> None:
        """Begin another text."""
        self.clear()
        self.tokens.clear()

    def rows(self, name: str) -> NDArray | None:
        """Which tokens a linear of an expert got; None of any other linear."""
        return self.tokens.get(name.rpartition(".")[0])

    def watch(self, inner: Callable[..., NDArray]) -> Callable[..., NDArray]:
        """Return `inner` that also keeps what it gives."""

        def linear(name: str, x: NDArray, w: NDArray, b: NDArray | None) -> NDArray:
            self[name] = inner(name, x, w, b)
            return self[name]

        return linear


def evaluate(
    float_dir: str | Path,
    quantized_dir: str | Path,
    tokens: Tokens,
    *,
    progress: Callable[[int], None] = lambda layers: None,
) -> Evaluation:
    """Run both models over the texts and compare them.

    Raises: CheckpointError: unreadable, not a float and a quantized directory of one model, or a
        type without a forward.
    """
    float_model, quantized = open_checkpoint(float_dir), _open_quantized(quantized_dir)
    left, right = _model(float_model), _model(quantized)
    linears = QuantizedLinears(quantized, right)
    if left.architecture.hidden != right.architecture.hidden:
        raise CheckpointError(
            f"{quantized_dir}: hidden_size {right.architecture.hidden}, the float model has "
            f"{left.architecture.hidden}"
        )
    kept, made = Outputs(), Outputs()
    left.linear = kept.watch(FloatLinear(left.numerics))
    right.linear = made.watch(linears)
    if isinstance(right, Decoder):
        right.states = _cache_states(quantized)
    found = Evaluation(tokens=sum(len(t) for t in tokens))
    a, b = ([m.embed(t) for t in tokens] for m in (left, right))
    costs: dict[str, LinearCost] = {}
    for one, other in zip(_layers(left), _layers(right), strict=True):
        linears.next_layer()
        left.linear = one.scope.linear_of = kept.watch(FloatLinear(left.numerics))
        one.scope.routed, other.scope.routed = kept.routed, made.routed
        for i in range(len(tokens)):
            a[i], b[i] = one(a[i]), other(b[i])
            for name, y in kept.items():
                cost = costs.setdefault(name, LinearCost(name, linears.label(name)))
                cost.add(*same_tokens(name, y, kept, made))
            kept.forget()
            made.forget()
        progress(1)
    found.linears = [cost for cost in costs.values() if cost.cosines]  # an expert may share none
    if isinstance(left, Decoder) and isinstance(right, Decoder):
        _compare_heads(left, right, a, b, tokens, found)
    else:
        found.embedding = [float(cosines(_mean(x), _mean(y))[0]) for x, y in zip(a, b, strict=True)]
    return found


def same_tokens(name: str, y: NDArray, kept: Outputs, made: Outputs) -> tuple[NDArray, NDArray]:
    """The outputs of a linear of both models: an expert's on the tokens that it got in both."""
    own, theirs = kept.rows(name), made.rows(name)
    if own is None:
        return y, made[name]
    if theirs is None:
        return y[:0], y[:0]
    _, mine, other = np.intersect1d(own, theirs, assume_unique=True, return_indices=True)
    return y[mine], made[name][other]


def cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each row; 1 for two zero rows, 0 for one. Args: (t, n) each. Returns: (t,)."""
    dots = (a * b).sum(axis=-1)
    sizes = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    same = (a == b).all(axis=-1)
    safe = np.where(sizes == 0, 1, sizes)
    return np.where(same, 1.0, np.where(sizes == 0, 0.0, dots / safe))


def log_softmax(logits: NDArray) -> NDArray[np.float64]:
    """log(e^z / Σ e^z) over the last axis, float64."""
    z = as_float32(logits).astype(np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def _compare_heads(
    left: Decoder,
    right: Decoder,
    a: list[NDArray],
    b: list[NDArray],
    tokens: Tokens,
    found: Evaluation,
) -> None:
    """Logits of both: divergence, agreement, perplexity; the head counts as a linear."""
    divergence, agree, counted = 0.0, 0, 0
    losses, predicted = np.zeros(2), 0
    for x, y, ids in zip(a, b, tokens, strict=True):
        p, q = log_softmax(left.head(x)), log_softmax(right.head(y))
        divergence += float((np.exp(p) * (p - q)).sum())
        agree += int((p.argmax(axis=-1) == q.argmax(axis=-1)).sum())
        counted += len(ids)
        following = np.asarray(ids)[1:, None]
        for i, z in enumerate((p, q)):
            losses[i] -= float(np.take_along_axis(z[:-1], following, axis=-1).sum())
        predicted += len(following)
    found.kl, found.agreement = divergence / counted, agree / counted
    if predicted:
        before, after = np.exp(losses / predicted)
        found.perplexity = (float(before), float(after))


def _mean(h: NDArray) -> NDArray[np.float64]:
    return as_float32(h).astype(np.float64).mean(axis=0, keepdims=True)


def _open_quantized(path: str | Path) -> Checkpoint:
    checkpoint = open_checkpoint(path)
    if checkpoint.kind != "msmodelslim" or checkpoint.description is None or checkpoint.parts:
        raise CheckpointError(
            f"{path}: found a {checkpoint.kind} directory, expected a quantized one with a "
            "description and no parts"
        )
    for found in checkpoint.defects:
        raise CheckpointError(f"{path}: {found.message}")
    return checkpoint


def _model(checkpoint: Checkpoint) -> Model:
    architecture = read_architecture(checkpoint.config, str(checkpoint.path))
    numerics, weights = model_numerics(checkpoint, None), Weights(checkpoint)
    if architecture.model_type in ENCODERS:
        return Encoder(architecture, weights, numerics)
    return Decoder(architecture, weights, numerics)


def _layers(model: Model) -> Iterator[Layer | EncoderLayer]:
    yield from model.layers()


def _cache_states(
    checkpoint: Checkpoint,
) -> Callable[[str, NDArray, NDArray, NDArray], tuple[NDArray, NDArray, NDArray]]:
    """Keys and values as they come back from an int8 cache, where the directory has one."""
    scheme, profile = C8(), checkpoint.profile.name or "A1"
    rules = layout.load("C8").rules(profile) if profile in layout.load("C8").profiles else {}

    def states(name: str, q: NDArray, k: NDArray, v: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        present = [s for s in rules if f"{name}.{s}" in checkpoint.table]
        if not present:
            return q, k, v
        tensors = {s: checkpoint.tensor(f"{name}.{s}") for s in present}
        c8 = scheme.from_tensors(tensors, profile, name)
        return q, scheme.round_trip(c8, "k_proj", k), scheme.round_trip(c8, "v_proj", v)

    return states


def format_evaluation(found: Evaluation) -> str:
    """Return the costs as text: one line per linear, then the whole model."""
    width = max([len(cost.name) for cost in found.linears], default=6)
    lines = [f"{'linear':<{width}}  {'type':<14} {'SQNR dB':>8} {'cosine':>9}"]
    lines += [
        f"{c.name:<{width}}  {c.label:<14} {c.sqnr:8.2f} {c.cosine:9.6f}" for c in found.linears
    ]
    lines.append(f"\n{found.tokens} tokens")
    if found.embedding:
        mean, least = float(np.mean(found.embedding)), min(found.embedding)
        lines.append(f"embedding cosine to float: mean {mean:.6f}, least {least:.6f}")
    else:
        before, after = found.perplexity
        lines.append(f"KL of the next token: {found.kl:.3e}, same top token: {found.agreement:.2%}")
        lines.append(f"perplexity: float {before:.4f}, quantized {after:.4f}")
    return "\n".join(lines)

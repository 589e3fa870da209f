"""Give the attention modules of a quantized directory the scales of C8 or FAQuant."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import open_checkpoint
from slimspec.checkpoint.writer import CheckpointWriter
from slimspec.golden.tiny_models import DTYPES, HEAD_DIM, HEADS, KV_HEADS, LAYERS
from slimspec.numeric import to_dtype
from slimspec.pipeline.quantize import VARIANTS
from slimspec.schemes.attention_base import Batches, attention_schemes

_SEED = 7
_METADATA = {
    "C8": {"kv_cache_type": "C8", "kv_quant_type": "C8"},
    "FAQuant": {"fa_quant_type": "FAKQuant"},
}


def add_attention(
    quantized: Path,
    out: Path,
    kind: str,
    profile: str,
    dtype: str,
    *,
    kv_heads: int = KV_HEADS,
    part_file_size: int | None = None,
) -> None:
    """Copy a directory and give each attention module its scales.

    Args:
        kind: "C8" or "FAQuant".
        dtype: of the float model, a key of `DTYPES`.
        kv_heads: heads of keys and values; latent attention has one for all.
        part_file_size: bytes per shard; None = one file and no index.
    """
    checkpoint = open_checkpoint(quantized)
    assert checkpoint.description is not None
    labels = checkpoint.description.labels
    with CheckpointWriter(
        out,
        profile=profile,
        model_quant_type=str(checkpoint.description.get("model_quant_type")),
        part_file_size=part_file_size,
        metadata=_METADATA[kind],
    ) as writer:
        writer.copy_companions(quantized)
        for name in checkpoint.table.names:
            writer.write(name, checkpoint.tensor(name), labels[name])
        for layer in range(LAYERS):
            module = f"model.layers.{layer}.self_attn"
            for suffix, array in _tensors(kind, profile, dtype, layer, kv_heads):
                writer.write(f"{module}.{suffix}", array, kind)
            if kind == "FAQuant":
                writer.describe(f"{module}.quant_type", "INT8")


def _tensors(
    kind: str, profile: str, dtype: str, layer: int, kv_heads: int
) -> Iterator[tuple[str, NDArray[Any]]]:
    scheme = attention_schemes()[kind]
    variant = VARIANTS[profile]
    batches = _samples(kind, layer, kv_heads, variant == "v0" and kind == "C8")
    found = scheme.quantize(batches, variant=variant)
    yield from scheme.tensors(found, profile, DTYPES[dtype][0]).items()


def _samples(kind: str, layer: int, kv_heads: int, flat: bool) -> Batches:
    """One seeded calibration batch: states [1, heads, 8, d], or projection outputs [8, heads·d]."""
    random = np.random.RandomState(_SEED + layer)  # the stream that NumPy promises to keep
    roles = {"C8": ("k_proj", "v_proj"), "FAQuant": ("fa_q", "fa_k", "fa_v")}[kind]
    samples = {}
    for role in roles:
        heads = HEADS if role == "fa_q" else kv_heads
        states = random.standard_normal((1, heads, 8, HEAD_DIM)).astype(np.float32)
        if flat:
            states = states.transpose(0, 2, 1, 3).reshape(8, heads * HEAD_DIM)
        samples[role] = [to_dtype(states, np.float32)]
    return samples

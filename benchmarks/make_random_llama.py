"""Write a random Llama directory of about a given size, tensor by tensor, with a tokenizer.

    python -m benchmarks.make_random_llama OUT_DIR [--layers 24] [--hidden 896] [--wide 4864]

The defaults are the sizes of a model of half a billion parameters. The tokenizer has one token for
each byte. Memory stays that of one tensor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from slimspec.checkpoint.writer import GIB, CheckpointWriter

Shape = tuple[int, ...]


def shapes(args: argparse.Namespace) -> Iterator[tuple[str, Shape]]:
    """Yield name and shape of every tensor."""
    hidden, wide, d = args.hidden, args.wide, args.hidden // args.heads
    yield "model.embed_tokens.weight", (args.vocabulary, hidden)
    for i in range(args.layers):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (hidden,)
        for part, heads in (("q", args.heads), ("k", args.kv), ("v", args.kv)):
            yield f"{layer}.self_attn.{part}_proj.weight", (heads * d, hidden)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, hidden)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
        yield f"{layer}.mlp.gate_proj.weight", (wide, hidden)
        yield f"{layer}.mlp.up_proj.weight", (wide, hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, wide)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (args.vocabulary, hidden)


def values(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Norms of one with a few large channels; weights that keep the size of what passes."""
    if len(shape) == 1:
        found = np.ones(shape, np.float32)
        found[:: max(1, shape[0] // 7)] = 6
        return found.astype(ml_dtypes.bfloat16)
    size = np.float32(shape[-1] ** -0.5)
    return (size * rng.standard_normal(shape, np.float32)).astype(ml_dtypes.bfloat16)


def write_tokenizer(folder: Path) -> None:
    """One token for each byte."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    sizes = {"layers": 24, "hidden": 896, "wide": 4864, "heads": 14, "kv": 2, "vocabulary": 80000}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    rng, count = np.random.default_rng(0), 0
    with CheckpointWriter(args.out, profile="FLOAT", part_file_size=GIB) as writer:
        for name, shape in shapes(args):
            array = values(rng, shape)
            count += array.size
            writer.write(name, array, None)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": args.hidden,
        "intermediate_size": args.wide,
        "num_hidden_layers": args.layers,
        "num_attention_heads": args.heads,
        "num_key_value_heads": args.kv,
        "vocab_size": args.vocabulary,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 4096,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
    }
    (args.out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    write_tokenizer(args.out)
    print(f"{args.out}: {count / 1e6:.0f} million parameters")


if __name__ == "__main__":
    main()

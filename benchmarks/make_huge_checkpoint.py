"""Make a DeepSeek-R1-like W8A8 checkpoint of any number of tensors out of sparse files.

Profile A1, bfloat16: static W8A8 attention (MLA), W8A8_DYNAMIC dense, shared and routed experts.
Headers, description, index and config are real; the data are holes (zeros), so the directory is
good for layout checks and takes no disk space to speak of.

    python benchmarks/make_huge_checkpoint.py DIR [--tensors 130000] [--shards 160]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from slimspec.checkpoint.naming import (
    STYLES,
    description_name,
    index_name,
    order_description,
    weights_names,
)
from slimspec.checkpoint.shard import Record, encode_header, nbytes_of, storage_key

LAYERS, DENSE = 61, 3
HIDDEN, INTERMEDIATE, EXPERT, VOCABULARY = 7168, 18432, 2048, 129280
HEADS, NOPE, ROPE, VALUE, Q_RANK, KV_RANK = 128, 128, 64, 128, 1536, 512

Described = tuple[Record, str]  # tensor and label


def tensors(experts: int) -> Iterator[Described]:
    """Yield all tensors of a model with this many routed experts per layer, in write order."""
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        yield from attention(f"{prefix}.self_attn")
        if layer < DENSE:
            yield from mlp(f"{prefix}.mlp", INTERMEDIATE)
        else:
            yield tensor(f"{prefix}.mlp.gate.weight", "BF16", (experts, HIDDEN), "FLOAT")
            yield tensor(f"{prefix}.mlp.gate.e_score_correction_bias", "BF16", (experts,), "FLOAT")
            for expert in range(experts):
                yield from mlp(f"{prefix}.mlp.experts.{expert}", EXPERT)
            yield from mlp(f"{prefix}.mlp.shared_experts", EXPERT)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield tensor(f"{prefix}.{norm}.weight", "BF16", (HIDDEN,), "FLOAT")
    yield tensor("model.embed_tokens.weight", "BF16", (VOCABULARY, HIDDEN), "FLOAT")
    yield tensor("model.norm.weight", "BF16", (HIDDEN,), "FLOAT")
    yield tensor("lm_head.weight", "BF16", (VOCABULARY, HIDDEN), "FLOAT")


def attention(prefix: str) -> Iterator[Described]:
    """Yield the tensors of one MLA block."""
    yield from static(f"{prefix}.q_a_proj", Q_RANK, HIDDEN)
    yield tensor(f"{prefix}.q_a_layernorm.weight", "BF16", (Q_RANK,), "FLOAT")
    yield from static(f"{prefix}.q_b_proj", HEADS * (NOPE + ROPE), Q_RANK)
    yield from static(f"{prefix}.kv_a_proj_with_mqa", KV_RANK + ROPE, HIDDEN)
    yield tensor(f"{prefix}.kv_a_layernorm.weight", "BF16", (KV_RANK,), "FLOAT")
    yield tensor(f"{prefix}.kv_b_proj.weight", "BF16", (HEADS * (NOPE + VALUE), KV_RANK), "FLOAT")
    yield from static(f"{prefix}.o_proj", HIDDEN, HEADS * VALUE)


def mlp(prefix: str, intermediate: int) -> Iterator[Described]:
    """Yield the tensors of one gated MLP."""
    yield from dynamic(f"{prefix}.gate_proj", intermediate, HIDDEN)
    yield from dynamic(f"{prefix}.up_proj", intermediate, HIDDEN)
    yield from dynamic(f"{prefix}.down_proj", HIDDEN, intermediate)


def static(linear: str, n: int, k: int) -> Iterator[Described]:
    """Yield the tensors of a static W8A8 linear in profile A1 for a bfloat16 model."""
    yield tensor(f"{linear}.weight", "I8", (n, k), "W8A8")
    yield tensor(f"{linear}.quant_bias", "I32", (n,), "W8A8")
    yield tensor(f"{linear}.input_scale", "F32", (1,), "W8A8")
    yield tensor(f"{linear}.input_offset", "F32", (1,), "W8A8")
    yield tensor(f"{linear}.deq_scale", "F32", (n,), "W8A8")


def dynamic(linear: str, n: int, k: int) -> Iterator[Described]:
    """Yield the tensors of a W8A8_DYNAMIC linear in profile A1."""
    yield tensor(f"{linear}.weight", "I8", (n, k), "W8A8_DYNAMIC")
    yield tensor(f"{linear}.weight_scale", "F32", (n, 1), "W8A8_DYNAMIC")
    yield tensor(f"{linear}.weight_offset", "F32", (n, 1), "W8A8_DYNAMIC")


def tensor(name: str, dtype: str, shape: tuple[int, ...], label: str) -> Described:
    """Return one record with its size and label."""
    return Record(name, dtype, shape, nbytes_of(dtype, shape)), label


def experts_for(count: int) -> int:
    """Return the number of routed experts that comes closest to `count` tensors, at least 1."""
    base = sum(1 for _ in tensors(0))
    return max(1, round((count - base) / (9 * (LAYERS - DENSE))))


def config(experts: int) -> dict[str, object]:
    """Return config.json."""
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "torch_dtype": "bfloat16",
        "first_k_dense_replace": DENSE,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "kv_lora_rank": KV_RANK,
        "moe_intermediate_size": EXPERT,
        "n_routed_experts": experts,
        "n_shared_experts": 1,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": HEADS,
        "q_lora_rank": Q_RANK,
        "qk_nope_head_dim": NOPE,
        "qk_rope_head_dim": ROPE,
        "tie_word_embeddings": False,
        "v_head_dim": VALUE,
        "vocab_size": VOCABULARY,
    }


def make(out: Path, count: int, shards: int) -> str:
    """Write the directory `out`, which must not exist; return a line that says what is in it."""
    experts = experts_for(count)
    described = list(tensors(experts))
    total = sum(record.nbytes for record, _ in described)
    files: list[list[Record]] = [[] for _ in range(shards)]
    position = 0
    for record, _ in described:  # by the middle of the tensor, so that shards are of equal size
        files[(position + record.nbytes // 2) * shards // total].append(record)
        position += record.nbytes
    files = [records for records in files if records]
    out.mkdir(parents=True, mode=0o750)
    style = STYLES["A1"]
    weight_map = {}
    for name, records in zip(weights_names("A1", "W8A8", len(files)), files, strict=True):
        weight_map |= {record.name: name for record in records}
        header = encode_header(sorted(records, key=storage_key))
        with (out / name).open("xb") as stream:
            stream.write(header)
            stream.truncate(len(header) + sum(record.nbytes for record in records))
        (out / name).chmod(style.weights_mode)
    labels = {record.name: label for record, label in described}
    description = order_description("A1", "W8A8", 0, labels, {})
    dump(out / description_name("A1", "W8A8"), description, style.indent)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    dump(out / index_name("A1", "W8A8"), index, 2)
    dump(out / "config.json", config(experts), 2)
    dump(out / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizerFast"}, 2)
    return (
        f"{out}: {len(described)} tensors in {len(files)} shards, {experts} experts per layer, "
        f"{total / 1e9:.1f} GB of holes"
    )


def dump(path: Path, value: object, indent: int) -> None:
    """Write JSON as the producer does."""
    path.write_text(json.dumps(value, indent=indent), encoding="utf-8")


def main() -> int:
    """Parse the command line and make the directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path, help="the directory to create")
    parser.add_argument("--tensors", type=int, default=130_000, help="about this many (130000)")
    parser.add_argument("--shards", type=int, default=160, help="number of files (160)")
    args = parser.parse_args()
    if args.directory.exists():
        print(f"{args.directory} exists", file=sys.stderr)
        return 4
    if args.shards < 1:
        print(f"--shards {args.shards}: expected at least 1", file=sys.stderr)
        return 4
    print(make(args.directory, args.tensors, args.shards))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Which indices each rank holds, and the names of parts: both can be undone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.checkpoint import CheckpointError
from slimspec.pipeline.shard_map import choose_map, consumers, shard_maps
from slimspec.pipeline.shard_plan import Member
from slimspec.pipeline.shard_split import (
    Block,
    cut,
    even_blocks,
    join,
    kv_blocks,
    query_blocks,
)

RANKS = st.sampled_from([1, 2, 3, 4, 8, 16])


def widths(blocks):
    return [block.width for block in blocks]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(heads=st.integers(1, 40), share=st.integers(1, 8), ranks=RANKS, unit=st.integers(1, 3))
def test_heads_joined_after_the_split_are_the_same(heads, share, ranks, unit):
    """Every accepted split of queries and of keys can be undone, padded or not."""
    kv_heads = max(1, heads // share)
    rng = np.random.default_rng(heads)
    for rule, count in ((query_blocks, heads), (kv_blocks, kv_heads)):
        try:
            blocks = rule(heads, kv_heads, ranks, pad=True)
        except ValueError:
            continue
        assert len(blocks) == ranks
        assert len(set(widths(blocks))) == 1, "all ranks run the same program"
        array = rng.integers(-9, 9, (count * unit, 5)).astype(np.int8)
        scaled = [block.scaled(unit) for block in blocks]
        parts = [cut(array, block, 0) for block in scaled]
        np.testing.assert_array_equal(join(parts, scaled, 0), array)
        turned = [cut(array.T, block, 1) for block in scaled]
        np.testing.assert_array_equal(join(turned, scaled, 1), array.T)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(kv_heads=st.integers(1, 8), group=st.integers(2, 8), ranks=RANKS)
def test_every_rank_has_the_key_head_of_each_of_its_query_heads(kv_heads, group, ranks):
    heads = kv_heads * group
    try:
        queries = query_blocks(heads, kv_heads, ranks, pad=True)
        keys = kv_blocks(heads, kv_heads, ranks, pad=True)
    except ValueError:
        return
    for query, key in zip(queries, keys, strict=True):
        needed = {head // group for head in range(query.start, query.stop)}
        assert needed <= set(range(key.start, key.stop))


def test_padding_of_grouped_queries_starts_each_group():
    blocks = query_blocks(6, 2, 4, pad=True)
    assert blocks == [Block(0, 1, 2), Block(1, 3, 2), Block(3, 4, 2), Block(4, 6, 2)]
    assert kv_blocks(6, 2, 4) == [Block(0, 1, 1), Block(0, 1, 1), Block(1, 2, 1), Block(1, 2, 1)]


def test_padding_without_groups_ends_the_last_ranks():
    assert query_blocks(5, 5, 4, pad=True) == [
        Block(0, 2, 2),
        Block(2, 4, 2),
        Block(4, 5, 2),
        Block(5, 5, 2),
    ]


def test_padding_that_would_lose_heads_is_refused():
    with pytest.raises(ValueError, match="padding would lose heads"):
        query_blocks(5, 1, 4, pad=True)


@pytest.mark.parametrize(
    ("heads", "kv", "ranks", "text"),
    [
        (3, 1, 2, "3 attention heads do not divide by 2 ranks; --pad-heads"),
        (2, 2, 4, "2 attention heads do not divide by 4 ranks"),
    ],
)
def test_heads_that_do_not_divide_are_refused_unless_padding_is_asked_for(heads, kv, ranks, text):
    with pytest.raises(ValueError, match=text):
        query_blocks(heads, kv, ranks)


def test_key_heads_that_neither_divide_nor_are_shared_evenly_are_refused():
    with pytest.raises(ValueError, match="6 key/value heads do not divide by 4 ranks, nor the"):
        kv_blocks(12, 6, 4, pad=True)


def test_rows_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="10 do not divide by 4 ranks"):
        even_blocks(10, 4)


def test_parts_that_share_a_head_must_agree():
    blocks = kv_blocks(8, 1, 2)
    one, other = np.ones((1, 2), np.int8), np.zeros((1, 2), np.int8)
    np.testing.assert_array_equal(join([one, one], blocks, 0), one)
    with pytest.raises(ValueError, match="rank 1 differs from the rank it shares heads with"):
        join([one, other], blocks, 0)


def test_negative_zero_differs_from_zero_where_parts_must_agree():
    blocks = kv_blocks(8, 1, 2)
    plus = np.zeros((1, 2), np.float16)
    with pytest.raises(ValueError, match="rank 1 differs"):
        join([plus, -plus], blocks, 0)


def test_padding_that_is_not_zero_is_refused():
    blocks = query_blocks(3, 1, 2, pad=True)
    parts = [cut(np.arange(1, 4, dtype=np.int8), block, 0) for block in blocks]
    parts[0][1] = 7
    with pytest.raises(ValueError, match="rank 0: padding is not zero"):
        join(parts, blocks, 0)


def test_part_of_another_shape_or_dtype_is_refused():
    blocks = even_blocks(4, 2)
    good = np.zeros(2, np.int32)
    with pytest.raises(ValueError, match=r"rank 1 holds int32 \[3\], expected int32 \[2\]"):
        join([good, np.zeros(3, np.int32)], blocks, 0)
    with pytest.raises(ValueError, match=r"rank 1 holds int64 \[2\]"):
        join([good, good.astype(np.int64)], blocks, 0)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(n=st.integers(1, 9), k=st.integers(1, 9), ranks=st.sampled_from([1, 2, 4]), data=st.data())
def test_linear_joined_after_the_split_is_the_same(n, k, ranks, data):
    split = data.draw(st.sampled_from(["rows", "columns", "replicated"]))
    rng = np.random.default_rng(n * 16 + k)
    shape = (n * ranks, k) if split == "rows" else (n, k * ranks)
    tensors = {
        "weight": rng.integers(-128, 128, shape).astype(np.int8),
        "quant_bias": rng.integers(-99, 99, shape[0]).astype(np.int32),
        "deq_scale": rng.integers(1, 99, shape[0]),
        "bias": rng.standard_normal(shape[0]).astype(np.float16),
        "input_scale": np.array([0.25], np.float16),
        "input_offset": np.array([-3], np.int8),
    }
    size = shape[0] if split == "rows" else shape[1]
    blocks = None if split == "replicated" else tuple(even_blocks(size, ranks))
    member = Member("m", split, blocks)
    for suffix, array in tensors.items():
        parts = [member.cut(suffix, array, rank) for rank in range(ranks)]
        np.testing.assert_array_equal(member.join(suffix, parts), array)
    assert member.cut("deq_scale", tensors["deq_scale"], ranks - 1).size == (
        n if split == "rows" else shape[0]
    )


def test_sum_over_ranks_of_a_row_parallel_linear_adds_the_bias_once():
    """(Σ_r acc_r + bias_r) = acc + bias in integers, with the cuts of `Member`."""
    rng = np.random.default_rng(0)
    w = rng.integers(-128, 128, (6, 12)).astype(np.int8)
    bias = rng.integers(-999, 999, 6).astype(np.int32)
    x = rng.integers(-128, 128, 12)
    member = Member("o_proj", "columns", tuple(even_blocks(12, 4)))
    total = sum(
        member.cut("weight", w, rank).astype(np.int64) @ x[rank * 3 : rank * 3 + 3]
        + member.cut("quant_bias", bias, rank)
        for rank in range(4)
    )
    np.testing.assert_array_equal(total, w.astype(np.int64) @ x + bias)


def test_bias_of_a_later_rank_must_be_zero():
    member = Member("o_proj", "columns", tuple(even_blocks(4, 2)))
    one = np.ones(3, np.int32)
    with pytest.raises(ValueError, match="rank 1 is not zero, so that it would be added again"):
        member.join("quant_bias", [one, one])


@pytest.mark.parametrize("shards", shard_maps().values(), ids=lambda m: m.name)
def test_names_of_parts_can_be_undone(shards):
    names = ["lm_head.weight", "model.norm.weight", "model.embed_tokens.weight"]
    for layer in (0, 11):
        for module in (*shards.modules, "q_norm", "rotary"):
            names.append(f"model.layers.{layer}.self_attn.{module}.weight")
            names.append(f"model.layers.{layer}.mlp.{module}.input_scale")
        for norm in ("input_layernorm", "post_attention_layernorm"):
            names += [f"model.layers.{layer}.{norm}.{s}" for s in ("weight", "bias")]
    renamed = [shards.rename(name) for name in names]
    assert len(set(renamed)) == len(set(names))
    assert [shards.restore(name) for name in renamed] == names


def test_norms_stored_twice_get_the_names_that_the_engine_reads():
    shards = choose_map("mindie", "qwen2")
    norm = "model.layers.3.input_layernorm"
    assert shards.rename(f"{norm}.weight", True) == "transformer.h.3.ln_1.ori.weight"
    assert shards.rename(f"{norm}.module.bias", True) == "transformer.h.3.ln_1.anti.bias"
    assert shards.restore("transformer.h.3.ln_1.ori.weight") == f"{norm}.weight"
    assert shards.restore("transformer.h.3.ln_1.anti.bias") == f"{norm}.module.bias"


def test_published_names_of_the_engine():
    """seeds/000:18-34 and facts/formats.md 1.5."""
    shards = choose_map("mindie", "qwen3")
    expected = {
        "model.layers.0.self_attn.o_proj.weight": "transformer.h.0.attn.c_proj.weight",
        "model.layers.0.self_attn.q_norm.weight": "transformer.h.0.attn.q_norm.weight",
        "model.layers.0.mlp.down_proj.index": "transformer.h.0.mlp.c_proj.index",
        "model.layers.0.post_attention_layernorm.weight": "transformer.h.0.ln_2.weight",
        "model.norm.weight": "transformer.ln_f.weight",
        "model.embed_tokens.weight": "transformer.wte.weight",
        "lm_head.weight": "lm_head.weight",
    }
    assert {name: shards.rename(name) for name in expected} == expected
    assert shards.member_of("model.layers.0.self_attn.k_proj") == "c_attn"
    assert shards.member_of("model.layers.0.mlp.up_proj") == "w2_w1"


def test_name_that_could_not_be_told_apart_afterwards_is_refused():
    shards = choose_map("mindie", "qwen2")
    with pytest.raises(CheckpointError, match=r"do not tell it from 'model\.norm\.weight'"):
        shards.rename("transformer.ln_f.weight")


def test_model_without_names_of_the_engine_is_refused():
    with pytest.raises(CheckpointError, match="found 'mamba', expected one of llama, qwen2, qwen3"):
        choose_map("mindie", "mamba")
    assert choose_map("hf", "mamba").name == "hf"
    assert consumers()[0] == "hf"

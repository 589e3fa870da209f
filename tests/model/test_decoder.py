"""What holds for every decoder, whatever its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from slimspec.model import Decoder, KVCache, following_tokens, rolled_positions
from slimspec.numeric import as_float32

Build = Callable[..., Path]
TOKENS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 35])


def test_logits_have_one_row_per_token_in_the_model_dtype(build: Build, family: str) -> None:
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        logits = Decoder.open(build(family), dtype).forward(TOKENS)
        assert logits.shape == (len(TOKENS), 40)
        assert logits.dtype == dtype
        assert np.isfinite(as_float32(logits)).all()


def test_a_later_token_changes_no_earlier_logits(build: Build, family: str) -> None:
    decoder = Decoder.open(build(family))
    other = TOKENS.copy()
    other[6:] = [7, 8, 0, 1]
    a, b = decoder.forward(TOKENS), decoder.forward(other)
    assert np.array_equal(a[:6], b[:6])
    assert not np.array_equal(a[6:], b[6:])


def test_an_earlier_token_changes_later_logits(build: Build, family: str) -> None:
    decoder = Decoder.open(build(family))
    other = TOKENS.copy()
    other[0] = 30
    assert not np.array_equal(decoder.forward(TOKENS)[-1], decoder.forward(other)[-1])


def test_cached_steps_equal_the_whole_text(build: Build, family: str) -> None:
    """The sums over keys are the same but for masked zeros, so the rows agree to roundings.

    Bound: 2 layers of about 20 roundings of 2^-24 each, on logits of size about 1, with the
    factor 2^5 for what the layers amplify.
    """
    decoder, cache = Decoder.open(build(family)), KVCache()
    parts = [decoder.forward(TOKENS[:4], cache=cache), decoder.forward(TOKENS[4:5], cache=cache)]
    parts.append(decoder.forward(TOKENS[5:], cache=cache))
    assert len(cache) == len(TOKENS)
    whole = decoder.forward(TOKENS)
    assert np.abs(np.concatenate(parts) - whole).max() <= 40 * 2.0**-24 * 2**5


def test_generation_follows_the_largest_logit(build: Build, family: str) -> None:
    decoder = Decoder.open(build(family))
    text, expected = list(TOKENS[:3]), []
    for _ in range(3):
        text.append(int(np.argmax(decoder.forward(np.array(text))[-1])))
        expected.append(text[-1])
    assert decoder.generate(TOKENS[:3], 3) == expected


def test_layers_one_at_a_time_equal_the_forward_pass(build: Build, family: str) -> None:
    decoder = Decoder.open(build(family))
    texts = [TOKENS, TOKENS[:5]]
    hidden = [decoder.embed(text) for text in texts]
    for layer in decoder.layers():  # all texts through a layer, then the next layer
        hidden = [layer(h) for h in hidden]
    for h, text in zip(hidden, texts, strict=True):
        assert np.array_equal(decoder.head(h), decoder.forward(text))


def test_every_linear_is_seen_under_its_name_in_the_checkpoint(build: Build, family: str) -> None:
    decoder = Decoder.open(build(family))
    seen: dict[str, tuple[int, ...]] = {}
    decoder.forward(TOKENS, observe=lambda name, x: seen.__setitem__(name, x.shape))
    matrices = {
        t.name.removesuffix(".weight"): t.shape
        for t in decoder.weights.checkpoint.table
        if len(t.shape) == 2 and ".layers.2." not in t.name  # layer 2 is the MTP layer
    }
    matrices.pop("model.embed_tokens")
    matrices.setdefault("lm_head", (40, 32))
    routers = {n for n in matrices if n.endswith(".gate")} if "deepseek" in family else set()
    unseen = set(matrices) - set(seen) - routers
    assert all(".experts." in name for name in unseen)  # experts that no token chose
    assert set(seen) <= set(matrices)
    for name, shape in seen.items():
        assert shape[1] == matrices[name][1]


def test_the_linear_can_be_replaced(build: Build, family: str) -> None:
    folder = build(family)
    plain, called = Decoder.open(folder), []

    def linear(name: str, x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        called.append(name)
        y = x.astype(np.float64) @ w.astype(np.float64).T
        return (y if b is None else y + b).astype(np.float32)

    seen: list[str] = []
    replaced = Decoder.open(folder, linear=linear).forward(
        TOKENS, lambda name, x: seen.append(name)
    )
    assert called == seen
    # float32 against float64 sums: bound as for cached steps
    assert np.abs(replaced - plain.forward(TOKENS)).max() <= 40 * 2.0**-24 * 2**5


def test_attention_states_can_be_replaced(build: Build, family: str) -> None:
    decoder, shapes = Decoder.open(build(family)), {}

    def blank(name: str, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple:
        shapes[name] = (q.shape[0], k.shape[0], v.shape[0])
        return q, k, np.zeros_like(v)

    decoder.states = blank
    seen = {}
    decoder.forward(TOKENS, observe=lambda name, x: seen.__setitem__(name, x))
    assert list(shapes) == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    assert set(shapes.values()) == {
        (4, 4 if "deepseek" in family else 2, 4 if "deepseek" in family else 2)
    }
    assert not seen["model.layers.1.self_attn.o_proj"].any()


def test_sixteen_bit_logits_stay_near_the_float32_ones(build: Build, family: str) -> None:
    """About 40 roundings of 2^-9 (bfloat16) of logits of size about 1, doubled for two paths.

    Routing may flip at a near tie, which rounds nothing; so experts are left out.
    """
    if "moe" in family or "deepseek" in family:
        pytest.skip("a flipped choice of expert is no rounding")
    folder = build(family, torch_dtype="bfloat16")
    exact = Decoder.open(folder, np.float32).forward(TOKENS)
    near = as_float32(Decoder.open(folder).forward(TOKENS))
    assert np.linalg.norm(near - exact) <= 80 * 2.0**-9 * np.linalg.norm(exact)


def test_shared_heads_equal_repeated_heads(build: Build) -> None:
    """GQA with kv heads written twice is MHA."""
    folder = build("llama")
    shared = Decoder.open(folder)
    tensors = {}
    for i in range(2):
        for part in ("k", "v"):
            name = f"model.layers.{i}.self_attn.{part}_proj.weight"
            w = np.array(shared.weights.stored(name)).reshape(2, 8, 32)
            tensors[name] = np.repeat(w, 2, axis=0).reshape(32, 32)
    repeated = Decoder.open(build("llama", tensors, num_key_value_heads=4))
    assert np.array_equal(shared.forward(TOKENS), repeated.forward(TOKENS))


def test_a_window_hides_tokens_that_are_too_far_back(build: Build) -> None:
    changes = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0}
    decoder = Decoder.open(build("qwen2", **changes))
    other = TOKENS.copy()
    other[0] = 30
    a, b = decoder.forward(TOKENS), decoder.forward(other)
    assert np.array_equal(a[5:], b[5:])  # two layers of window 3 reach four tokens back
    assert not np.array_equal(a[4], b[4])


def test_multi_token_prediction_runs_behind_the_last_layer(build: Build) -> None:
    decoder = Decoder.open(build("deepseek_v3"))
    h = decoder.embed(TOKENS)
    for layer in decoder.layers():
        h = layer(h)
    last = int(np.argmax(decoder.head(h)[-1]))
    seen: list[str] = []
    [(parts, body)] = decoder.mtp_layers()
    x = parts.enter(h, following_tokens(TOKENS, last), lambda name, x: seen.append(name))
    y = body(x, rolled_positions(len(TOKENS)), observe=lambda name, x: seen.append(name))
    logits = parts.head(y, lambda name, x: seen.append(name))
    assert logits.shape == (len(TOKENS), 40)
    assert seen[0] == "model.layers.2.eh_proj"
    assert "model.layers.2.mlp.shared_experts.down_proj" in seen
    assert seen[-1] == "model.layers.2.shared_head.head"


def test_following_tokens_and_positions_move_by_one() -> None:
    assert following_tokens(np.array([5, 6, 7]), 9).tolist() == [6, 7, 9]
    assert rolled_positions(4).tolist() == [1, 2, 3, 0]


def test_replaced_weights_take_effect(build: Build) -> None:
    decoder = Decoder.open(build("llama"))
    before = decoder.forward(TOKENS)
    name = "model.layers.0.mlp.down_proj.weight"
    decoder.weights.replaced[name] = 2 * np.array(decoder.weights.stored(name))
    assert not np.array_equal(decoder.forward(TOKENS), before)


def test_a_norm_bias_is_added(build: Build) -> None:
    folder = build("llama", {"model.norm.bias": np.ones(32, np.float32)})
    with_bias, without = {}, {}
    Decoder.open(folder).forward(TOKENS, lambda name, x: with_bias.__setitem__(name, x))
    Decoder.open(build("llama")).forward(TOKENS, lambda name, x: without.__setitem__(name, x))
    assert np.array_equal(with_bias["lm_head"], without["lm_head"] + np.float32(1))

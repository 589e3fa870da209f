"""The data of engines: names, versions, SoCs, and what binds whom."""

import json
from pathlib import Path

import pytest

from slimcheck.consumers import choose, consumers, socs
from slimcheck.consumers_facts import When
from slimspec import layout, requirements
from slimspec.data import folder
from slimspec.layout import vocabulary

ENGINES = list(consumers().values())
FILES = sorted((folder("schemas") / "consumers").glob("*.json"))
DISAGREEMENTS = json.loads((folder("schemas") / "disagreements.json").read_text())["disagreements"]

every = pytest.mark.parametrize("engine", ENGINES, ids=[engine.name for engine in ENGINES])


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_file_is_called_as_its_engine_and_names_known_disagreements(path: Path) -> None:
    raw = json.loads(path.read_text())
    assert raw["name"] == path.stem
    assert set(raw.get("disagreements", ())) <= {row["id"] for row in DISAGREEMENTS}


@every
def test_every_window_lies_within_the_known_versions(engine) -> None:
    facts = (
        *(*engine.labels, *engine.metadata, *engine.tensors, *engine.requirements),
        *(*engine.containers, *engine.names, *engine.features, *engine.biases),
        *(known for models in engine.models for known in models.known),
    )
    for when in (fact.when for fact in facts):
        assert {when.since, when.until} - {""} <= set(engine.versions)
        assert any(engine.holds(when, version) for version in engine.versions)
        assert set(when.socs) <= set(engine.socs)


@every
def test_labels_are_in_the_vocabulary_and_ids_in_the_catalogue(engine) -> None:
    known = vocabulary.labels()
    for fact in engine.labels:
        for label in fact.labels:
            assert label in known or layout.resolve(label)
    assert {key for row in engine.requirements for key in row.ids} <= requirements.load().keys()
    assert set(engine.socs) <= set(socs())


@every
def test_no_label_is_stated_twice_for_one_version_and_layer(engine) -> None:
    for version in engine.versions:
        pairs = [
            (label, layer)
            for fact in engine.labels
            if engine.holds(fact.when, version)
            for label in fact.labels
            for layer in fact.layers
        ]
        assert len(pairs) == len(set(pairs))


def test_no_name_means_all_engines_at_their_newest_version() -> None:
    assert [(c.consumer, c.version, c.asked) for c in choose(())] == [
        (engine, engine.versions[-1], engine.name) for engine in ENGINES
    ]


def test_a_family_is_all_its_engines_and_a_soc_leaves_those_that_run_on_it() -> None:
    mindie = {choice.consumer.name for choice in choose(["mindie"])}
    assert mindie == {engine.name for engine in ENGINES if engine.scope == "mindie"}
    assert len(mindie) > 1
    assert {c.consumer.name for c in choose((), "310P")} == {
        engine.name for engine in ENGINES if "310P" in engine.socs
    }


def test_a_version_is_the_newest_that_starts_so() -> None:
    engine = next(e for e in ENGINES if len(e.versions) > 2)
    exact = engine.versions[1]
    (choice,) = choose([f"{engine.name}@{exact}"])
    assert (choice.version, choice.asked) == (exact, f"{engine.name}@{exact}")
    major = exact.partition(".")[0]
    (choice,) = choose([f"{engine.name}@{major}"])
    assert choice.version == [v for v in engine.versions if v.startswith(f"{major}.")][-1]


@pytest.mark.parametrize(
    ("asked", "soc", "text"),
    [
        ("vlm", "", "no consumer 'vlm': one of "),
        ("vllm-ascend@9.9", "", "no version '9.9' of vllm-ascend is known: "),
        ("vllm-ascend@0.1", "", "no version '0.1'"),  # is not 0.11.0
        ("vllm-ascend", "310P", "does not run on 310P"),
    ],
)
def test_unknown_name_version_or_soc_says_what_is_known(asked: str, soc: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        choose([asked], soc)


def test_window_is_closed_at_both_ends() -> None:
    engine = next(e for e in ENGINES if len(e.versions) > 4)
    first, second, third, fourth = engine.versions[:4]
    window = When(second, third, (engine.socs[0],))
    assert [engine.holds(window, v) for v in (first, second, third, fourth)] == [0, 1, 1, 0]
    assert engine.holds(window, second, engine.socs[0])
    assert not engine.holds(window, second, "another")
    assert engine.holds(When(), first, "another")


def test_rows_of_an_engine_go_before_the_scope() -> None:
    for engine in ENGINES:
        newest = engine.versions[-1]
        for row in engine.requirements:
            for key in row.ids:
                scope = requirements.load()[key].scope.consumers
                named = engine.scope in scope or engine.name in scope
                assert named != row.binding  # otherwise the row says nothing
                if engine.holds(row.when, newest):
                    assert engine.binds(key, scope, newest) is row.binding
                else:
                    assert engine.binds(key, scope, newest) is named


def test_every_consumer_requirement_binds_some_engine_at_its_newest() -> None:
    for key, requirement in requirements.load().items():
        scope = requirement.scope.consumers
        if scope:
            assert any(engine.binds(key, scope, engine.versions[-1]) for engine in ENGINES), key

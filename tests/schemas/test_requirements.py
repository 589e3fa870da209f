"""The catalogue of requirements as data."""

import json
import re

import pytest

from slimspec import layout, requirements
from slimspec.data import folder
from slimspec.layout import profiles

CATALOGUE = requirements.load()
DISAGREEMENTS = {
    row["id"]: row
    for row in json.loads((folder("schemas") / "disagreements.json").read_text(encoding="utf-8"))[
        "disagreements"
    ]
}
every = pytest.mark.parametrize("row", CATALOGUE.values(), ids=list(CATALOGUE))


def numbers(chapter):
    return {int(row.id[-3:]) for row in CATALOGUE.values() if row.chapter == chapter}


@pytest.mark.parametrize(
    ("chapter", "expected"),
    [
        ("DIR", set(range(1, 25))),
        ("IDX", set(range(1, 9))),
        ("CFG", set(range(1, 12))),
        ("DESC", set(range(1, 36))),
        ("W8A8", set(range(1, 28)) - {7, 18}),
        ("DEQ", set(range(1, 7))),
        ("DYN", set(range(1, 11)) - {9}),
        ("W8A16", set(range(1, 11))),
        ("NUM", set(range(1, 9)) - {4}),
        ("PERM", {1}),
        ("SEC", {1}),
        ("W4A16", set(range(1, 13))),
        ("W4A8", set(range(1, 20))),
        ("W4A4", set(range(1, 5))),
        ("FQ", set(range(1, 9))),
        ("MX", set(range(1, 13))),
        ("KV", set(range(1, 7))),
        ("FA", set(range(1, 6))),
        ("SP", set(range(1, 7))),
        ("SC", set(range(1, 21))),
        ("TP", set(range(1, 9))),
        ("PACK", set(range(1, 10))),
        ("NORM", set(range(1, 7))),
        ("ROT", set(range(1, 6))),
        ("RED", set(range(1, 5))),
        ("NF4", {1}),
    ],
)
def test_ids_are_never_lost_or_reused(chapter, expected):
    assert numbers(chapter) >= expected


@every
def test_row_is_complete(row):
    assert row.level in ("MUST", "SHOULD")
    own = [advice for advice, _ in row.own_advice()]
    for text in (row.title, *(t for advice in (row, *own) for t in (advice.why, advice.fix))):
        assert text.endswith(".")
        assert not re.search(r"[一-鿿]", text)
    for text in (
        row.title_zh,
        *(t for advice in (row, *own) for t in (advice.why_zh, advice.fix_zh)),
    ):
        assert text.endswith("。")
        assert re.search(r"[一-鿿]", text)
    assert row.source


@every
def test_scope_names_known_profiles_and_engines(row):
    files = (folder("schemas") / "consumers").glob("*.json")
    engines = {json.loads(path.read_text(encoding="utf-8"))["scope"] for path in files}
    assert set(row.scope.profiles) <= set(profiles.names())
    assert set(row.scope.consumers) <= engines
    assert bool(row.scope.consumers) == (row.scope.kind == "consumer")
    assert bool(row.scope.profiles) or row.scope.kind != "producer"


@every
def test_types_have_a_layout(row):
    assert set(row.types) <= {*layout.types(), *layout.derivations()}


@every
def test_disagreements_exist(row):
    assert set(row.disagreements) <= set(DISAGREEMENTS)


def test_types_of_a_producer_rule_are_written_by_its_producers():
    for row in CATALOGUE.values():
        if row.scope.kind == "producer" and row.types:
            writers = {p for name in row.types for p in layout.load(name).profiles}
            assert writers & set(row.scope.profiles), row.id


def test_disagreements_are_numbered_without_a_gap():
    assert list(DISAGREEMENTS) == [f"D{i}" for i in range(1, len(DISAGREEMENTS) + 1)]


def test_disagreements_affect_known_things():
    chapters = {row.chapter for row in CATALOGUE.values()}
    other = {"pipeline", "labels.json", "SC"}
    for row in DISAGREEMENTS.values():
        assert set(row["affects"]) <= chapters | set(layout.types()) | other, row["id"]


def test_catalogue_cannot_be_changed_by_a_user():
    with pytest.raises(TypeError):
        CATALOGUE["X-001"] = None
    with pytest.raises(AttributeError):
        CATALOGUE["DIR-001"].level = "SHOULD"


def test_id_used_twice_is_refused(tmp_path, monkeypatch):
    chapter = json.loads((folder("schemas") / "requirements" / "IDX.json").read_text("utf-8"))
    (tmp_path / "requirements").mkdir()
    for name in ("A.json", "B.json"):
        (tmp_path / "requirements" / name).write_text(json.dumps(chapter), encoding="utf-8")
    monkeypatch.setattr(requirements, "folder", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"B\.json: IDX-001 is defined twice"):
        requirements.load.__wrapped__()

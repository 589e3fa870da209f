"""A description that lies in a million ways takes no more time and memory than an honest one."""

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from slimcheck import findings
from slimcheck.described import at_most
from slimcheck.findings import Finding, gather
from slimcheck.rules.desc_entries import _stored_as


def test_groups_beyond_many_become_one(monkeypatch):
    monkeypatch.setattr(findings, "_MOST", 3)
    said = [Finding("A-001", "x", f"found {i}", "none", (f"m.{i}",)) for i in range(9)]
    said += [Finding("A-001", "x", "more", "none", ("m.1",)), Finding("A-001", "y", "f", "none")]
    groups = gather(said)
    assert [(g.kind, g.tensors) for g in groups] == [
        ("x", ["m.0"]),
        ("x", ["m.1", "m.1"]),
        ("x", ["m.2"]),
        ("x", ["m.3", "m.4", "m.5", "m.6", "m.7", "m.8"]),
        ("y", []),
    ]
    assert sum(group.findings for group in groups) == len(said)


def test_what_is_left_of_many_groups_is_one():
    assert list(at_most(["a", "bc", "d", "ef"], 2)) == [("a",), ("b", "c"), ("d", "e", "f")]
    assert list(at_most(["a", "bc"], 2)) == [("a",), ("b", "c")]


NAMES = st.lists(st.text("ab.", max_size=6), unique=True, max_size=8)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(NAMES, NAMES, NAMES)
def test_near_name_is_the_first_that_differs_by_a_prefix(stored, labels, absent):
    context = SimpleNamespace(
        checkpoint=SimpleNamespace(table=SimpleNamespace(names=stored)), labels=labels
    )
    absent = [name for name in absent if name and name not in stored]
    near = {}
    for name in absent:
        for other in stored:
            if other not in labels and (other.endswith("." + name) or name.endswith("." + other)):
                near.setdefault(name, other)
    assert _stored_as(context, absent) == near

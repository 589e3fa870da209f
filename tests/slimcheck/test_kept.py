"""A kept property is computed once for an object, and at the same time for others."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from slimcheck.kept import kept


class Thing:
    """Counts how often its property is computed; two things wait for each other."""

    together: Barrier | None = None

    def __init__(self) -> None:
        self.calls = 0

    @kept
    def value(self) -> int:
        """What it is worth."""
        self.calls += 1
        if self.together:
            self.together.wait(timeout=20)
        return 7


def test_value_is_computed_once_and_can_be_dropped():
    thing = Thing()
    assert (thing.value, thing.value, thing.calls) == (7, 7, 1)
    thing.__dict__.pop("value")
    assert (thing.value, thing.calls) == (7, 2)
    assert Thing.value.__doc__ == "What it is worth."


def test_threads_compute_for_two_objects_at_once(monkeypatch):
    monkeypatch.setattr(Thing, "together", Barrier(2))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda thing: thing.value, (Thing(), Thing()))) == [7, 7]

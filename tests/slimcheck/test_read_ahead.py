"""What is asked of the system ahead: weights that lie near at once, and none that it has."""

import os
from types import SimpleNamespace

import pytest

from slimcheck.values.read_ahead import ReadAhead

MB = 1 << 20

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"),
    reason="this system cannot be asked",
)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Ask for spans of a file of which the system has the first bytes; return what it is asked."""
    file = tmp_path / "file"
    file.write_bytes(bytes(100))

    def ask(spans, there=0, path=file):
        calls = []

        def read(handle, buffers, at, flags):
            assert flags == os.RWF_NOWAIT
            if at >= there:
                raise BlockingIOError
            return 1

        monkeypatch.setattr(os, "preadv", read)
        monkeypatch.setattr(os, "posix_fadvise", lambda _, at, size, how: calls.append((at, size)))
        kind, ahead = SimpleNamespace(lead="weight"), ReadAhead()
        ahead.want(
            SimpleNamespace(kind=kind, places={"weight": (str(path), *span)}) for span in spans
        )
        ahead.close()
        return calls

    return ask


def test_weights_that_lie_near_are_asked_for_at_once(asked):
    assert asked([(0, 5), (5, 9), (9 + MB, 9 + 2 * MB)]) == [(0, 9 + 2 * MB)]
    assert asked([(0, 5), (6 + MB, 7 + MB)]) == [(0, 5), (6 + MB, 1)]
    assert asked([(10, 20), (0, 5)]) == [(10, 10), (0, 5)]
    assert asked([(-1, -1), (3, 3)]) == []
    assert asked([(-1, -1), (3, 5)]) == [(3, 2)]


def test_what_the_system_has_is_not_asked_for(asked):
    assert asked([(0, 9 * MB)], there=9 * MB) == []
    assert asked([(0, 9 * MB)], there=7 * MB) == [(0, 9 * MB)]
    assert asked([(0, 9 * MB)], there=9 * MB - 1) == [(0, 9 * MB)]
    assert asked([(100, MB)], there=4096) == [(100, MB - 100)]  # the page that ends the header


def test_file_that_cannot_be_opened_is_left_to_the_rules(asked, tmp_path):
    assert asked([(0, 5)], path=tmp_path / "absent") == []

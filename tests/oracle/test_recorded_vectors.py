"""The golden vectors of origin "producer" are the recordings, byte for byte."""

from pathlib import Path

from slimspec.data import folder
from slimspec.golden.recorded import write_recorded


def test_recorded_vectors_are_made_again(oracle: Path, tmp_path: Path) -> None:
    write_recorded(tmp_path, oracle / "vectors")
    made, stored = (
        {path.name: path.read_bytes() for path in (root / "vectors" / "recorded").iterdir()}
        for root in (tmp_path, folder("golden"))
    )
    assert made.keys() == stored.keys()
    assert [name for name in made if made[name] != stored[name]] == []

"""Level numeric on what the producer wrote: nothing was changed, and most of it is exact."""

import re
from pathlib import Path

import pytest

from slimcheck.engine import Options, judge
from slimcheck.numeric.records import Comparison, Outcome
from slimspec.checkpoint import open_checkpoint


def rows_of(case: Path) -> list[Comparison]:
    readme = case / "README.txt"
    named = readme.is_file() and re.search(
        r"^float model:\s*(\S+)", readme.read_text(encoding="utf-8"), re.MULTILINE
    )
    if not named or not (case / named[1]).is_dir():
        pytest.skip("the case names no float model")
    found = {path.parent for path in (case / "quant").rglob("quant_model_description*.json")}
    rows: list[Comparison] = []
    for directory in sorted(path for path in found if not path.name.startswith("part")):
        wanted = Options(
            level="numeric", float_model=str(case / named[1]), select=("VAL-1*",), threads=1
        )
        judge(open_checkpoint(directory), wanted, comparisons=rows)
    return rows


@pytest.mark.slow
def test_nothing_is_said_to_be_changed(checkpoint: Path) -> None:
    assert not [row for row in rows_of(checkpoint) if row.outcome is Outcome.DIFFERS]

"""The verdicts in docs/consumers.md are those of the recorded checkpoints that are here."""

import os
import re
from pathlib import Path

import pytest

from slimcheck.consumers_page import directories, verdict_row

HERE = Path(__file__).resolve().parents[2]
ROOT = Path(os.environ.get("SLIMSPEC_ORACLE", HERE.parent / "shared" / "oracle")) / "checkpoints"
PAGE = (HERE / "docs" / "consumers.md").read_text(encoding="utf-8")
ROWS = {
    found[1]: found[0]
    for found in re.finditer(r"^\| (\S+) \|.*\|$", PAGE.partition("## Verdicts")[2], re.MULTILINE)
    if found[1] != "checkpoint"
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ROOT.is_dir(), reason=f"no recorded checkpoints in {ROOT}"),
]


def test_the_page_has_a_row_for_each_recorded_checkpoint_that_it_knows() -> None:
    assert len(ROWS) > 50


@pytest.mark.parametrize("directory", directories(ROOT) if ROOT.is_dir() else [], ids=str)
def test_verdicts_are_as_the_page_says(directory: Path) -> None:
    row = verdict_row(ROOT, directory)
    if row is None or row[0] not in ROWS:
        pytest.skip("not on the page")
    assert row[1] == ROWS[row[0]]

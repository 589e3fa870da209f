"""docs/sparse.md names every defect code at its level."""

import re
from pathlib import Path

from slimspec.sparse import CODES

PAGE = (Path(__file__).parents[2] / "docs" / "sparse.md").read_text()


def test_table_of_codes_is_the_table_of_the_code() -> None:
    rows = re.findall(r"^\| (\d) \w+ \| (.*) \|$", PAGE, re.MULTILINE)
    documented = {
        (code, int(level), star == "*")
        for level, cell in rows
        for code, star in re.findall(r"`([\w-]+)`(\*?)", cell)
    }
    assert documented == {(code, level, warns) for code, (level, warns, _) in CODES.items()}

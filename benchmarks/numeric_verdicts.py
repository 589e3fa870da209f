"""Verdicts of recorded checkpoints beside their float models: benchmarks.numeric_verdicts [GLOB].

One line per directory and verdict: how many linears, of which type. The recorded runs are those of
$SLIMSPEC_ORACLE. The command fails if a linear DIFFERS, as nothing was changed after the producer.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from slimcheck.engine import Options, judge
from slimcheck.numeric.records import Comparison, Outcome
from slimcheck.numeric.table import summary
from slimspec.checkpoint import open_checkpoint
from slimspec.data import folder


def cases(glob: str) -> Iterator[tuple[Path, Path]]:
    """Yield (directory, float model) of the recorded runs that name one."""
    root = Path(os.environ.get("SLIMSPEC_ORACLE", folder("golden").parent.parent / "shared/oracle"))
    for case in sorted((root / "checkpoints").glob("*")):
        readme = case / "README.txt"
        named = readme.is_file() and re.search(
            r"^float model:\s*(\S+)", readme.read_text("utf-8"), re.MULTILINE
        )
        if not named or not fnmatchcase(case.name, glob):
            continue
        found = {path.parent for path in (case / "quant").rglob("quant_model_description*.json")}
        for directory in sorted(found):
            if not directory.name.startswith("part"):
                yield directory, (case / named[1]).resolve()


def main() -> int:
    """Run the command; 1 if something differs, 5 if there was nothing to compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("glob", nargs="?", default="*")
    options = parser.parse_args()
    compared = differs = 0
    for directory, model in cases(options.glob):
        rows: list[Comparison] = []
        wanted = Options(level="numeric", float_model=str(model), select=("VAL-*",))
        judge(open_checkpoint(directory), wanted, comparisons=rows)
        compared += len(rows)
        differs += sum(row.outcome is Outcome.DIFFERS for row in rows)
        print(directory.relative_to(directory.parents[2]))
        for cells in summary(rows):
            print("    " + "  ".join(cells[:5]))
    print(f"{compared} tensors compared, {differs} differ")
    return 5 if not compared else int(differs > 0)


if __name__ == "__main__":
    sys.exit(main())

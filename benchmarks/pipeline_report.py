"""Print how much of each recorded directory our pipeline makes from text alone.

    python -m benchmarks.pipeline_report [--case PART] [--torch]

Only the recipe, the texts and the float model go in. One row per directory of the producer:
tensors, those that differ in a bit, the share of equal integers, the largest difference of an
input_scale (relative) and of an input_offset, and of a float tensor (relative to its largest
value). Recipes outside the pipeline follow with the reason. The oracle is $SLIMSPEC_ORACLE or
../shared/oracle.

With --torch, products, attention, angles and powers are those of the installed torch: what still
differs then is no matter of a library's last digits.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracle"))

from oracle_replay import find_cases, oracle_root
from pipeline_cases import Compared, NotRunError, PipelineReport, run_pipeline
from torch_library import torch_library

from slimspec.checkpoint import CheckpointError

HEADER = (
    f"{'run':52} {'output':12} {'tensors':>7} {'differ':>6} {'equal integers':>15} "
    f"{'scales':>6} {'max |Δscale|':>12} {'max |Δoffset|':>13} {'max |Δfloat|':>12}  note"
)


def rows(report: PipelineReport) -> Iterator[str]:
    """Yield one line per directory."""
    for output in report.outputs:
        cpu = "" if report.cpu == "amx" else "sums without AMX"
        fused = "" if report.attend == "eager" else "loaded with fused attention"
        note = "; ".join(filter(None, [cpu, fused, *output.missing[:1]]))
        yield (
            f"{report.name:52} {output.name[:12]:12} {output.tensors:7} {output.differing:6} "
            f"{share(output):>15} {output.inputs:6} {output.scale:12.2e} {output.offset:13.0f} "
            f"{output.floats:12.2e}  {note}"
        )


def share(output: Compared) -> str:
    """The share of equal integers; - where there are none."""
    return f"{output.equal_integers / output.integers:.4%}" if output.integers else "-"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 5 if nothing was run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", default="", metavar="PART", help="only runs whose name has it")
    parser.add_argument(
        "--torch", action="store_true", help="let the torch of this machine do products and powers"
    )
    options = parser.parse_args(arguments)
    with torch_library() if options.torch else nullcontext():
        return _report(options.case)


def _report(part: str) -> int:
    done, left = 0, []
    print(HEADER)
    start = time.perf_counter()
    for path in find_cases(oracle_root()):
        if part not in path.name:
            continue
        try:
            report = run_pipeline(path)
        except NotRunError as reason:
            left.append(f"{path.name}: {reason}")
            continue
        except CheckpointError as refusal:
            left.append(f"{path.name}: refused: {refusal}")
            continue
        done += 1
        for line in rows(report):
            print(line, flush=True)
    print(f"\n{done} recipes run from text in {time.perf_counter() - start:.0f} s; not run:")
    for line in left:
        print(f"  {line}")
    return 0 if done else 5


if __name__ == "__main__":
    sys.exit(main())

"""Every operation: evidence that is not the reference's own, and a run through a command."""

import sys
from pathlib import Path

import pytest

from slimspec.golden import cases
from slimspec.golden.operations import operations
from slimspec.golden.runner import run_cases

REFERENCE = """
import json, pathlib, sys
import numpy as np
from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.golden.operations import operation

inputs, outputs = map(pathlib.Path, sys.argv[1:])

def value(text):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text

tensors, attributes, wanted = {}, {}, []
for line in (inputs / "case.txt").read_text(encoding="utf-8").splitlines():
    kind, name, *rest = line.split(" ")
    if kind == "op":
        op = operation(name)
    elif kind == "numerics" and name != "canonical":
        attributes["numerics"] = name
    elif kind == "attribute":
        attributes[name] = value(" ".join(rest))
    elif kind == "input":
        shape = [int(size) for size in rest[2 : 2 + int(rest[1])]]
        data = np.fromfile(inputs / rest[-1], np.uint8).view(whole_dtype(rest[0]))
        tensors[name] = data.reshape(shape)
    elif kind == "output":
        wanted.append(name)
made = op.run(tensors, attributes)
for name in wanted:
    (outputs / f"{name}.bin").write_bytes(np.ascontiguousarray(made[name]).tobytes())
"""


@pytest.mark.parametrize("op", operations())
def test_evidence_comes_from_elsewhere(op: str) -> None:
    assert {case.origin for case in cases(op)} & {"producer", "hand", "torch"}


@pytest.mark.slow
@pytest.mark.parametrize("op", operations())
def test_reference_passes_as_a_command(op: str, tmp_path: Path) -> None:
    """What `slimspec golden run` does, with one vector of the most inputs."""
    (tmp_path / "kernel.py").write_text(REFERENCE, encoding="utf-8")
    command = f"{sys.executable} {tmp_path / 'kernel.py'} {{inputs}} {{outputs}}"
    chosen = max(cases(op), key=lambda case: len(case.inputs))
    (found,) = run_cases([chosen], command)
    assert found.problems == ()

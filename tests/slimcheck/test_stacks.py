"""A rule that clears a stack of modules has no finding in any of its members."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcheck import registry
from slimcheck.engine import Options, contexts_of, judge
from slimcheck.rules import w4a8_values
from slimcheck.values import scan
from slimcheck.values.modules import modules
from slimcheck.values.stacks import stacks
from slimspec import requirements
from slimspec.checkpoint import open_checkpoint
from slimspec.data import folder
from slimspec.golden import checkpoint_cases

VALID = folder("golden") / "checkpoints" / "valid"
CASES = [case for case in checkpoint_cases() if not case.cell]
PARTS = 8


def hidden(directory: Path, producer: str | None = None) -> tuple[list[tuple[str, str]], int]:
    """Requirements that clear a stack although they find something in a member; and all cleared."""
    wrong, cleared = [], 0
    rules, catalogue = registry.value_rules(), requirements.load()
    fitting = scan._fitting([(rule, catalogue[key].types) for key, rule in rules.items()])
    for context in contexts_of(open_checkpoint(directory), Options(producer=producer)):
        if context.where == "root":
            continue
        for stack in stacks(list(modules(context))):
            silent = scan._cleared(context, [stack], fitting)
            for member in stack.members:
                for key in silent.get(member.name, ()):
                    wrong += [(key, f.found) for f in rules[key].check(context, member)]
            cleared += len(silent.get(stack.name, ()))
            assert not stack._tensors  # the next one has its memory
    return wrong, cleared


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the scan names damage, it does not warn
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_hidden_in_a_golden_checkpoint(tmp_path, part):
    cleared = 0
    for case in CASES[part::PARTS]:
        if case.valid or case.kind != "layout":
            directory = case.materialize(tmp_path / case.id)
            wrong, count = hidden(directory, case.producer)
            assert wrong == [], case.id
            cleared += count
            shutil.rmtree(directory)
    assert cleared > 1000


NUMBERS = [0, 1, -1, 0.5, 1e-30, 1e30, -8, 7, 127, -128, np.nan, np.inf]
NAMES = ["w8a8-dynamic-a1-bf16", "w4a8-a1-bf16", "w4a8-g32-a0-bf16", "w8a16-asym-g32-a0-fp16",
         "w4a16-g32-a0-bf16", "w4a4-a1-bf16"]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.data())
def test_nothing_is_hidden_by_a_change(tmp_path_factory, name, data):
    """Some elements of a tensor, or all, become something else."""
    directory = tmp_path_factory.mktemp("stack") / "checkpoint"
    shutil.copytree(VALID / name, directory)
    table = open_checkpoint(directory).table
    rows = [row for row in range(len(table)) if "proj" in table.names[row]]
    row = data.draw(st.sampled_from(rows))
    checkpoint = open_checkpoint(directory)
    values = checkpoint.tensor(table.names[row]).copy()
    value = data.draw(st.sampled_from(NUMBERS))
    with np.errstate(all="ignore"):
        if data.draw(st.booleans()):
            values[...] = np.asarray(value).astype(values.dtype)
        else:
            place = data.draw(st.integers(0, values.size - 1))
            values.reshape(-1)[place] = np.asarray(value).astype(values.dtype)
    file = directory / table.file(row)
    content = bytearray(file.read_bytes())
    content[int(table.begin[row]) : int(table.end[row])] = values.tobytes()
    file.chmod(0o644)
    file.write_bytes(content)
    wrong, _ = hidden(directory)
    assert wrong == []
    with pytest.MonkeyPatch.context() as patch:  # what kernels see at once
        said = judged(directory)
        patch.setattr(w4a8_values, "jit_pays", lambda size: True)
        assert judged(directory) == said


def judged(directory: Path) -> list:
    results = judge(open_checkpoint(directory), Options(threads=1))
    return [(r.requirement.id, [g.found for g in r.groups]) for r in results if r.groups]


def test_a_file_that_ends_within_offsets_is_a_finding(tmp_path):
    directory = tmp_path / "checkpoint"
    shutil.copytree(VALID / "w8a16-asym-g32-a0-fp16", directory)
    table = open_checkpoint(directory).table
    row = next(r for r in range(len(table)) if table.names[r].endswith("weight_offset"))
    file = directory / table.file(row)
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content[: int(table.end[row]) - 1])
    assert "IDX-001" in [requirement for requirement, _ in judged(directory)]

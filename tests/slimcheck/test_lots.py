"""Small tensors that are read in one call are those of the file, by module and by stack."""

from types import SimpleNamespace

import numpy as np
import pytest

from slimcheck.engine import Options, contexts_of
from slimcheck.values import lots
from slimcheck.values.modules import modules
from slimcheck.values.stacks import stacks
from slimspec.checkpoint import open_checkpoint
from slimspec.data import folder
from slimspec.numeric.jit import jit_enabled

VALID = folder("golden") / "checkpoints" / "valid"

pytestmark = pytest.mark.skipif(not jit_enabled(), reason="kernels read files when compiled")


@pytest.mark.parametrize("name", ["qwen-moe-w8a8-a0-bf16", "w4a8-g32-a0-bf16", "w8a16-a1-fp16"])
def test_a_stack_has_what_its_members_have(monkeypatch, name):
    monkeypatch.setattr(lots, "jit_pays", lambda size: True)
    checkpoint = open_checkpoint(VALID / name)
    (context,) = contexts_of(checkpoint, Options())
    chosen = list(modules(context))
    found = list(stacks(chosen))
    lots.read(chosen, found)
    held = [(stack, suffix) for stack in found for suffix in stack._tensors]
    assert held
    for stack, suffix in held:
        parts = [checkpoint.tensor(member.tensor(suffix)) for member in stack.members]
        assert stack.array(suffix).dtype == parts[0].dtype
        assert stack.array(suffix).tobytes() == b"".join(part.tobytes() for part in parts)


class Holder(SimpleNamespace):
    """A module or a stack, as far as reading asks."""

    def hold(self, suffix, raw):
        self.held[suffix] = raw.tobytes()

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def gathered(tmp_path, spans, content, stacked=True):
    """Read one tensor of each module; return what each has, and what their stack has."""
    file = tmp_path / "file"
    file.write_bytes(content)
    members = [Holder(name=f"m{i}", held={}) for i in range(len(spans))]
    stack = Holder(name="m0", members=members, held={})
    places = [
        lots._Place(str(file), begin, size, module, "scale", None)
        for (begin, size), module in sorted(
            zip(spans, members, strict=True), key=lambda pair: pair[0][0]
        )  # as they lie in the file
    ]
    with file.open("rb") as stream:
        lots._gather(
            stream.fileno(), places, {m.name: stack for m in members} if stacked else {}
        )  # fmt: skip
    return [member.held.get("scale") for member in members], stack.held.get("scale")


CONTENT = np.random.default_rng(0).bytes(5000)


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize(
    "spans",
    [
        [(0, 64), (64, 64), (1000, 64)],
        [(8, 12), (100, 12)],
        [(0, 100), (0, 10)],  # tensors that lie in one another
        [(0, 10), (0, 100), (5, 7)],
        [(3, 5)],
    ],
)
def test_each_module_has_its_bytes(tmp_path, spans, stacked):
    found, together = gathered(tmp_path, spans, CONTENT, stacked)
    assert found == [CONTENT[begin : begin + size] for begin, size in spans]
    alike = stacked and len({size for _, size in spans}) == 1
    assert together == (b"".join(found) if alike else None)


def test_what_the_file_lacks_is_left_to_the_modules(tmp_path):
    found, together = gathered(tmp_path, [(0, 64), (4990, 64), (4995, 64)], CONTENT)
    assert found == [CONTENT[:64], None, None]
    assert together is None


def test_members_in_another_order_are_not_one_behind_another(tmp_path):
    found, together = gathered(tmp_path, [(64, 64), (0, 64)], CONTENT)
    assert found == [CONTENT[64:128], CONTENT[:64]]
    assert together is None

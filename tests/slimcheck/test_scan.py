"""The scan: any number of threads gives one report; shards and tensors narrow it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimcheck.engine import Options, judge
from slimcheck.run import RunError, run
from slimspec.checkpoint import open_checkpoint
from slimspec.data import folder

VALID = folder("golden") / "checkpoints" / "valid"


def said(results):
    return [
        (r.requirement.id, r.status, [(g.kind, g.found, g.tensors) for g in r.groups])
        for r in results
    ]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A checkpoint with a hole in its data."""
    import shutil

    directory = tmp_path / "checkpoint"
    shutil.copytree(VALID / "w8a8-a0-bf16", directory)
    file = next(directory.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 9000] = bytes(9000)
    file.chmod(0o644)
    file.write_bytes(content)
    return directory


def test_threads_do_not_change_the_report(damaged, monkeypatch):
    from slimcheck.values import scan

    monkeypatch.setattr(scan, "_JOB", 1)
    reports = [
        said(judge(open_checkpoint(damaged), Options(threads=threads))) for threads in (1, 2, 5)
    ]
    assert reports[0] == reports[1] == reports[2]
    assert any(groups for _, _, groups in reports[0])


def test_modules_are_handed_over_in_lots_of_bytes_and_of_modules(monkeypatch):
    """However small they are: each takes memory while it is judged."""
    from types import SimpleNamespace

    from slimcheck.values import scan

    monkeypatch.setattr(scan, "_SMALL_JOB", 100)
    monkeypatch.setattr(scan, "_MOST_MODULES", 7)
    kind = SimpleNamespace(memory=[0])

    def lots(nbytes):
        chosen = [SimpleNamespace(nbytes=nbytes, kind=kind, number=0) for _ in range(20)]
        return [len(job.modules) for job in scan._jobs(chosen)]

    assert lots(1) == [7, 7, 6]
    assert lots(30) == [4] * 5
    assert lots(scan._JOB) == [1] * 20


def test_memory_bound_lets_one_job_run(damaged, monkeypatch):
    from slimcheck.values import scan

    one = said(judge(open_checkpoint(damaged), Options(threads=1)))
    monkeypatch.setattr(scan, "_IN_FLIGHT", 1)
    assert said(judge(open_checkpoint(damaged), Options(threads=3))) == one


def test_progress_counts_every_byte_once(damaged):
    seen: list[tuple[int, int]] = []
    judge(open_checkpoint(damaged), Options(threads=2), lambda n, total: seen.append((n, total)))
    assert {total for _, total in seen} == {sum(n for n, _ in seen)}
    assert sum(n for n, _ in seen) == open_checkpoint(damaged).table.nbytes


def test_only_the_shards_asked_for_are_read(damaged):
    names = [shard.name for shard in open_checkpoint(damaged).shards]
    assert any(
        group.tensors for r in run(damaged, only_shards=[names[0]]).failed for group in r.groups
    )
    with pytest.raises(RunError, match="no such file"):
        run(damaged, only_shards=["absent-*"])


def test_threads_are_not_negative(damaged):
    with pytest.raises(RunError, match="--threads -1: expected 1 or more"):
        run(damaged, threads=-1)


@pytest.mark.parametrize("tag", ["BF16", "F16", "F32", "I8"])
def test_numbers_of_a_tensor_without_dimension(tmp_path: Path, tag: str):
    import numpy as np

    from slimcheck.context import Context
    from slimcheck.values.modules import modules
    from slimspec.checkpoint.dtypes import numpy_dtype
    from slimspec.checkpoint.writer import CheckpointWriter

    with CheckpointWriter(tmp_path / "q", profile="A1", model_quant_type="W8A8") as writer:
        writer.write("x.input_scale", np.ones((), numpy_dtype(tag)), "W8A8")
    checkpoint = open_checkpoint(tmp_path / "q")
    (module,) = modules(Context(checkpoint, checkpoint, "whole", "A1"))
    found = module.numbers("input_scale")
    assert found.shape == ()
    assert found.dtype == np.float32
    assert found == 1
    assert not found.flags.writeable


def test_signalling_nan_in_an_offset_warns_of_nothing(tmp_path: Path):
    import numpy as np

    from slimspec.checkpoint.writer import CheckpointWriter

    with CheckpointWriter(tmp_path / "q", profile="A0", model_quant_type="W8A16") as writer:
        writer.write("x.weight", np.ones((1, 8), np.int8), "W8A16")
        writer.write("x.weight_scale", np.ones((1, 1), np.float16), "W8A16")
        offset = np.array([[0x7F800001]], np.uint32).view(np.float32)
        writer.write("x.weight_offset", offset, "W8A16")
    assert "W8A16-002" in {result.requirement.id for result in run(tmp_path / "q").failed}


def test_unreadable_weight_is_named(damaged, monkeypatch):
    from slimcheck.values import lots, modules
    from slimspec.checkpoint import directory

    def fail(*args):
        raise OSError("Input/output error")

    monkeypatch.setattr(lots.os, "open", fail)
    monkeypatch.setattr(modules, "lot_stats", lambda handle, matrices: None)
    monkeypatch.setattr(directory, "stored_bytes", fail)
    (found,) = (r for r in run(damaged).failed if r.requirement.id == "IDX-001")
    assert "Input/output error" in found.groups[0].found


def test_what_is_read_together_is_what_is_read_alone(damaged, monkeypatch):
    """Nothing is read together, or everything that is small, by kernels or not."""
    from slimcheck.values import integers, lots, scan

    together = said(judge(open_checkpoint(damaged), Options()))
    with monkeypatch.context() as patch:
        patch.setattr(scan, "read", lambda modules, stacks: None)
        assert said(judge(open_checkpoint(damaged), Options())) == together
    for kernels in (True, False):
        monkeypatch.setattr(integers, "jit_pays", lambda size, kernels=kernels: kernels)
        monkeypatch.setattr(lots, "jit_pays", lambda size, kernels=kernels: kernels)
        for largest in (0, 5000, 1 << 30):
            monkeypatch.setattr(lots, "MAP_FROM", largest)
            assert said(judge(open_checkpoint(damaged), Options())) == together


@pytest.mark.parametrize("kernels", [True, False])
def test_weight_of_another_size_than_stated_cannot_be_read(tmp_path, monkeypatch, kernels):
    """Floats too are not judged by bytes that are not theirs, whether kernels read them or not."""
    import shutil

    from slimcheck.values import integers, lots, modules, words

    for module in (integers, lots, modules, words):
        monkeypatch.setattr(module, "jit_pays", lambda size: kernels)
    shutil.copytree(VALID / "float-a1-fp16", tmp_path / "q")
    name = "model.layers.0.self_attn.v_proj.weight"
    _patch(next((tmp_path / "q").glob("*.safetensors")), name, _end_early)
    results = said(judge(open_checkpoint(tmp_path / "q"), Options()))
    (groups,) = (groups for key, _, groups in results if key == "IDX-001")
    (unreadable,) = (tensors for kind, _, tensors in groups if kind == "unreadable")
    assert name in unreadable


@pytest.mark.parametrize("kernels", [True, False])
def test_blocks_of_a_dtype_that_numpy_lacks(tmp_path, monkeypatch, kernels):
    """Its bytes are looked at, whether kernels read them or not."""
    import shutil

    from slimcheck.values import lots, modules, words

    for module in (lots, modules, words):
        monkeypatch.setattr(module, "jit_pays", lambda size: kernels)
    shutil.copytree(VALID / "mxfp4-a1-bf16", tmp_path / "q")
    name = "model.layers.0.mlp.up_proj"

    def to_halves(tensor: dict[str, Any]) -> None:
        rows, columns = tensor["shape"]
        tensor.update(dtype="F4", shape=[rows, 2 * columns])

    before = _module(tmp_path / "q", name).words("weight")
    _patch(next((tmp_path / "q").glob("*.safetensors")), f"{name}.weight", to_halves)
    assert _module(tmp_path / "q", name).cls.tensors["weight"].dtype == "F4"
    assert _module(tmp_path / "q", name).words("weight").sample.tobytes() == before.sample.tobytes()
    results = said(judge(open_checkpoint(tmp_path / "q"), Options()))
    assert not [groups for key, _, groups in results if key == "IDX-001" and groups]


def _module(directory: Path, name: str) -> Any:
    from slimcheck.context import Context
    from slimcheck.values.modules import modules

    checkpoint = open_checkpoint(directory)
    found = modules(Context(checkpoint, checkpoint, "whole", "A1"))
    return next(module for module in found if module.name == name)


def _end_early(tensor: dict[str, Any]) -> None:
    tensor["data_offsets"][1] -= 8


def _patch(file: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the header says of a tensor, within the length of the header."""
    import json
    import struct

    content = file.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header[name])
    changed = json.dumps(header, separators=(",", ":")).encode()
    assert len(changed) <= size
    file.chmod(0o644)
    file.write_bytes(content[:8] + changed.ljust(size) + content[8 + size :])


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(("suffix", "first"), [
    ("weight", ("I8", [4, 4])), ("weight", ("I8", [4096, 1024])),
    ("weight", ("F32", [64, 64])), ("weight_scale", ("F64", [512, 1])),
])  # fmt: skip
def test_of_a_name_stored_twice_the_first_is_judged(tmp_path, monkeypatch, kernels, suffix, first):
    """Its bytes by its own shape and dtype: by those of the other, a kernel would leave them."""
    import json
    import shutil

    import numpy as np

    from slimcheck.context import Context, Spec
    from slimcheck.values import integers, lots, modules, words
    from slimspec.checkpoint.dtypes import BITS

    for module in (integers, lots, modules, words):
        monkeypatch.setattr(module, "jit_pays", lambda size: kernels)
    shutil.copytree(VALID / "w8a8-a0-bf16", tmp_path / "q")
    layer = "model.layers.0.self_attn"
    table = open_checkpoint(tmp_path / "q").table
    last = table.row(table.index(f"{layer}.q_proj.{suffix}"))
    header, size = {}, 0  # what looks like the second comes before the first
    for name, (tag, shape) in ("k_proj", (last.dtype, last.shape)), ("q_proj", first):
        begin, size = size, size + int(np.prod(shape)) * BITS[tag] // 8
        member = {"dtype": tag, "shape": shape, "data_offsets": [begin, size]}
        header[f"{layer}.{name}.{suffix}"] = member
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + b"\x01" * size
    (tmp_path / "q" / "a.safetensors").write_bytes(content)

    checkpoint = open_checkpoint(tmp_path / "q")
    (groups,) = (g for key, _, g in said(judge(checkpoint, Options())) if key == "DIR-009")
    assert list(groups[0][2]) == list(header)
    classes = Context(checkpoint, checkpoint, "whole", "A0").class_of
    assert classes[f"{layer}.q_proj"].tensors[suffix] == Spec(first[0], tuple(first[1]), "W8A8")

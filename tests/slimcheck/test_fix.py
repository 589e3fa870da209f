"""Repairs mend what the judge objected to, change nothing else, and never write in place."""

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from slimcheck.cli import main
from slimcheck.diff import diff
from slimcheck.fix import REPAIRABLE, Plan, plan
from slimcheck.fix_output import write
from slimcheck.run import run
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.checkpoint.partial import MARK
from slimspec.data import folder
from slimspec.golden import CheckpointCase, checkpoint_cases

INVALID = {case.id: case for case in checkpoint_cases() if not case.valid}
DESCRIPTION = "quant_model_description.json"
INDEX = "quant_model_weights.safetensors.index.json"
SHARD = "quant_model_weights-00001-of-00001.safetensors"


def failing(directory: Path, case: CheckpointCase | None = None) -> set[str]:
    producer = case.producer if case else None
    return {r.requirement.id for r in run(directory, producer=producer, level="layout").failed}


def contents(directory: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(directory).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mode,
        )
        for path in sorted(directory.rglob("*")) if path.is_file()
    }  # fmt: skip


def repairable() -> list[CheckpointCase]:
    """Golden cases all of whose findings are of kinds that a repair exists for."""
    return [
        case for case in INVALID.values()
        if {e.requirement for e in case.expected} <= set(REPAIRABLE)
    ]  # fmt: skip


def test_there_are_cases_of_most_repairs() -> None:
    covered = {e.requirement for case in repairable() for e in case.expected}
    assert covered >= set(REPAIRABLE) - {"DIR-024"}


@pytest.mark.parametrize("case", repairable(), ids=lambda case: case.id)
def test_golden_case_is_clean_after_the_repair(case: CheckpointCase, tmp_path: Path) -> None:
    directory, out = case.materialize(tmp_path / "in"), tmp_path / "out"
    before = contents(directory)
    wrong = failing(directory, case)
    repairs = plan(open_checkpoint(directory), case.producer)
    answered = {key for edit in repairs.edits for key in edit.ids}
    expected = {e.requirement for e in case.expected}
    assert expected <= answered
    write(directory, repairs, out, case.producer)
    assert not failing(out, case) & answered
    assert failing(out, case) <= wrong
    assert contents(directory) == before
    touched = {edit.file for edit in repairs.edits}
    after = contents(out)
    assert {k: v for k, v in after.items() if k not in touched} == {
        k: v for k, v in before.items() if k not in touched
    }
    gone = {edit.file for edit in repairs.edits if edit.content is None}
    assert gone.isdisjoint(after)


@pytest.mark.parametrize("name", ["w8a8-a1-bf16", "w8a16-a0-fp16", "w8a8-l0-fp16", "w8a8-mf-bf16"])
def test_valid_checkpoint_needs_no_repair(name: str, tmp_path: Path) -> None:
    directory = folder("golden") / "checkpoints" / "valid" / name
    assert plan(open_checkpoint(directory)) == Plan((), ())
    assert main(["fix", "--dry-run", str(directory)]) == 0
    assert main(["fix", str(directory), "-o", str(tmp_path / "out")]) == 5
    assert not (tmp_path / "out").exists()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    target = tmp_path / "in"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16", target)
    return target


def edit(path: Path, **members: Any) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, **members}))


def test_nested_quantization_config_goes_and_the_rest_stays(
    directory: Path, tmp_path: Path
) -> None:
    edit(
        directory / "config.json",
        quantization_config={"quant_method": "fp8"},
        text_config={"quantization_config": {"quant_method": "fp8"}, "rope_theta": 1e6},
    )
    assert main(["fix", str(directory), "-o", str(tmp_path / "out")]) == 0
    changes = [(c.kind, c.names) for c in diff(directory, tmp_path / "out")]
    assert all(kind == "config" for kind, _ in changes)
    names = {name for _, names in changes for name in names}
    assert names == {
        "quantization_config.quant_method", "text_config.quantization_config.quant_method",
    }  # fmt: skip


def test_dry_run_prints_and_writes_nothing(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / INDEX).unlink()
    before = contents(tmp_path)
    assert main(["fix", "--dry-run", str(directory)]) == 1
    out = capsys.readouterr().out
    assert f"{INDEX}: build from the headers of 1 files" in out
    assert "(IDX-002)" in out
    assert contents(tmp_path) == before


def test_several_repairs_go_together(directory: Path, tmp_path: Path) -> None:
    description = json.loads((directory / DESCRIPTION).read_text())
    for name in ("lm_head.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"):
        del description[name]
    (directory / DESCRIPTION).write_text(json.dumps(description))
    edit(directory / INDEX, metadata={"total_size": 1})
    edit(directory / "config.json", quantization_config={"group_size": 0})
    assert main(["fix", str(directory), "-o", str(tmp_path / "out")]) == 0
    mended = json.loads((tmp_path / "out" / DESCRIPTION).read_text())
    original = folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16" / DESCRIPTION
    assert mended == json.loads(original.read_text())
    assert run(tmp_path / "out").conformant


def test_quantized_tensor_gets_no_invented_entry(directory: Path, tmp_path: Path) -> None:
    description = json.loads((directory / DESCRIPTION).read_text())
    up = "model.layers.0.mlp.up_proj"
    for suffix in ("weight", "input_scale", "deq_scale"):
        del description[f"{up}.{suffix}"]
    (directory / DESCRIPTION).write_text(json.dumps(description))
    repairs = plan(open_checkpoint(directory))
    assert repairs.edits == ()
    assert "DESC-020" in repairs.left


def test_index_is_not_built_over_a_missing_shard(directory: Path) -> None:
    (directory / SHARD).rename(directory / "quant_model_weights-00001-of-00002.safetensors")
    repairs = plan(open_checkpoint(directory))
    assert repairs.edits == ()
    assert {"IDX-004", "IDX-005"} <= set(repairs.left)


def test_index_is_not_built_over_an_unreadable_shard(directory: Path) -> None:
    content = (directory / SHARD).read_bytes()
    (directory / SHARD).write_bytes(content[:-1])
    (directory / INDEX).unlink()
    assert plan(open_checkpoint(directory)).edits == ()


def test_description_with_a_doubled_key_is_left_alone(directory: Path) -> None:
    text = (directory / DESCRIPTION).read_text().replace('"lm_head.weight": "FLOAT",', "", 1)
    text = text.replace("{", '{"model.norm.weight": "W8A8",', 1)
    (directory / DESCRIPTION).write_text(text)
    repairs = plan(open_checkpoint(directory))
    assert repairs.edits == ()
    assert {"DESC-001", "DESC-020"} <= set(repairs.left)


def test_output_is_never_written_over_something(directory: Path, tmp_path: Path) -> None:
    (directory / INDEX).unlink()
    before = contents(directory)
    for out in (directory, directory / "out", tmp_path / "in" / "." / "out"):
        assert main(["fix", str(directory), "-o", str(out)]) == 4
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    assert main(["fix", str(directory), "-o", str(tmp_path / "full")]) == 4
    assert main(["fix", str(directory), "-o", str(tmp_path / "no" / "out")]) == 4
    assert contents(directory) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "in"]


def test_repair_that_fails_leaves_nothing(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / INDEX).unlink()
    repairs = plan(open_checkpoint(directory))
    wrong = repairs.edits[0].__class__(INDEX, "wrong", ("IDX-003",), b'{"weight_map": {"a": "b"}}')
    with pytest.raises(CheckpointError, match="IDX-003 would stay violated"):
        write(directory, Plan((wrong,), ()), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_what_a_killed_run_left_is_removed(directory: Path, tmp_path: Path) -> None:
    left = tmp_path / "out.partial-abc"
    left.mkdir()
    (left / MARK).touch()
    config = directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {}}))
    directory.chmod(0o750)
    (directory / MARK).touch()
    repairs = plan(open_checkpoint(directory))
    write(directory, repairs, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out"]
    assert not (tmp_path / "out" / MARK).exists()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


def test_weights_are_linked_and_copied_where_links_fail(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / INDEX).unlink()
    repairs = plan(open_checkpoint(directory))
    write(directory, repairs, tmp_path / "linked")
    assert (tmp_path / "linked" / SHARD).samefile(directory / SHARD)
    assert not (tmp_path / "linked" / "config.json").samefile(directory / "config.json")

    def refuse(*args: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    write(directory, repairs, tmp_path / "copied")
    assert not (tmp_path / "copied" / SHARD).samefile(directory / SHARD)
    assert diff(tmp_path / "copied", tmp_path / "linked") == []


def test_files_of_a_download_cache_are_followed(directory: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for path in sorted(directory.iterdir()):
        path.rename(cache / path.name)
        path.symlink_to(cache / path.name)
    edit(directory / "config.json", quantization_config={"quant_method": "fp8"})
    before = contents(cache)
    assert main(["fix", str(directory), "-o", str(tmp_path / "out")]) == 0
    assert contents(cache) == before
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "arguments", [[], ["--dry-run"], ["x", "--dry-run", "-o", "y"], ["--dry-run", "nowhere"]]
)
def test_wrong_usage_exits_with_4(arguments: list[str]) -> None:
    assert main(["fix", *arguments]) == 4

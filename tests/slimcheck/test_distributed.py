"""The scan on a Dask cluster finds what the local scan finds, and says what fails."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from slimcheck.cli import main
from slimcheck.distributed import ClusterError, Task, scan_file, scan_on_cluster
from slimcheck.engine import Options, contexts_of, judge
from slimcheck.report.jsonl import lines
from slimcheck.run import RunError, run
from slimcheck.values.scan import select
from slimspec.checkpoint import open_checkpoint
from slimspec.data import folder

needs_dask = pytest.mark.skipif(
    find_spec("distributed") is None, reason="the extra dask is not installed"
)
VALID = folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of three files with faults in two of them, and one weight twice."""
    directory = tmp_path_factory.mktemp("dask") / "broken"
    shutil.copytree(VALID, directory)
    weights = next(directory.glob("*.safetensors"))
    tensors = load_file(weights)
    names = sorted(tensors)
    scale = next(name for name in names if name.endswith("q_proj.input_scale"))
    bias = next(name for name in reversed(names) if name.endswith("down_proj.quant_bias"))
    tensors[scale] = np.full_like(tensors[scale], np.nan)
    tensors[bias] = tensors[bias] + 1000
    weights.unlink()
    where: dict[str, str] = {}
    for i in range(3):
        file = f"quant_model_weights-{i + 1:05d}-of-00003.safetensors"
        part = {n: tensors[n] for k, n in enumerate(names) if k * 3 // len(names) == i}
        save_file(part, directory / file)
        where |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (directory / "quant_model_weights.safetensors.index.json").write_text(json.dumps(index))
    return directory


class Inline:
    """A client that runs tasks here."""

    def map(self, function: Callable[[Task], Any], tasks: list[Task], pure: bool) -> list[Any]:
        return [_Future(function, task) for task in tasks]

    def cancel(self, futures: list[Any]) -> None:
        pass


class _Future:
    def __init__(self, function: Callable[[Task], Any], task: Task) -> None:
        self._call = lambda: function(task)

    def result(self) -> Any:
        return self._call()


@needs_dask
def test_tasks_of_files_find_what_one_scan_finds(
    broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributed.as_completed", lambda futures: reversed(futures))
    checkpoint = open_checkpoint(broken)
    options = Options()
    local = judge(checkpoint, options)
    monkeypatch.setattr("slimcheck.distributed._connect", lambda address: nullcontext(Inline()))
    spread = judge(open_checkpoint(broken), replace(options, dask="inline"))
    assert [(r.requirement.id, r.status, r.groups) for r in spread] == [
        (r.requirement.id, r.status, r.groups) for r in local
    ]
    found = {r.requirement.id for r in local if r.groups and r.requirement.phase == "values"}
    assert len(found) > 1


@needs_dask
def test_only_the_files_asked_for_become_tasks(
    broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Task] = []

    class Watching(Inline):
        def map(self, function: Any, tasks: list[Task], pure: bool) -> list[Any]:
            seen.extend(tasks)
            return super().map(function, tasks, pure)

    monkeypatch.setattr("distributed.as_completed", list)
    options = Options(dask="inline", only_shards=("*-00002-of-*",))
    (context,) = contexts_of(open_checkpoint(broken), options)
    progress: list[int] = []
    scan_on_cluster(
        context, select(context, None, options.only_shards), (), options,
        lambda done, total: progress.append(done), lambda address: nullcontext(Watching()),
    )  # fmt: skip
    assert [task.file for task in seen] == ["quant_model_weights-00002-of-00003.safetensors"]
    assert sum(progress) > 0


def test_worker_that_sees_another_directory_is_an_error(broken: Path) -> None:
    task = Task(str(broken), Options(), "", "x", (), 1, 1)
    with pytest.raises(ClusterError, match="sees another"):
        scan_file(task)
    with pytest.raises(ClusterError, match="cannot read the directory"):
        scan_file(replace(task, directory="/nowhere/at/all"))


@needs_dask
def test_no_scheduler_is_one_line_and_exit_code_4(
    broken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise OSError("nobody there")

    monkeypatch.setattr("distributed.Client", refuse)
    assert main([str(broken), "--dask", "tcp://127.0.0.1:1"]) == 4
    assert "no scheduler answers" in capsys.readouterr().err
    with pytest.raises(RunError, match="not with --level layout"):
        run(broken, level="layout", dask="tcp://127.0.0.1:1")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from distributed import LocalCluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster:
            yield cluster.scheduler_address


@needs_dask
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", [(), ("*-00002-of-*",)], ids=["all", "one-file"])
def test_cluster_of_two_workers_gives_the_same_report(
    broken: Path, address: str, part: tuple[str, ...]
) -> None:
    local = list(lines(run(broken, only_shards=part)))
    spread = list(lines(run(broken, only_shards=part, dask=address)))
    assert spread == local
    assert part or json.loads(local[-1])["counts"]["must"] > 0


@needs_dask
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_parts_are_scanned_on_a_cluster_too(address: str) -> None:
    valid = folder("golden") / "checkpoints" / "valid"
    directory = next(d for d in sorted(valid.iterdir()) if any(d.glob("part0-of-*")))
    assert list(lines(run(directory, dask=address))) == list(lines(run(directory)))

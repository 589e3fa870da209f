"""Quantized communication of simulated ranks: use_reduce_quant with tp_size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimcheck.run import run as judge
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.cli import main
from slimspec.matmul.reduce_quant import reduce_quantized
from slimspec.pipeline.calibration.communication import Communication, Parallel
from slimspec.pipeline.calibration.samples import encode_texts, read_texts
from slimspec.pipeline.evaluate import evaluate
from slimspec.pipeline.shard_map import row_parallel
from slimspec.schemes import Linear

Build = Callable[..., Path]
DOWN = "model.layers.1.mlp.down_proj"


def quantized(build: Build, calib_file: Path, out: Path, *options: str, dtype: str) -> Path:
    given = ["--calib_file", str(calib_file), "--use_reduce_quant", "True", *options]
    assert main(["quantize", str(build("llama", dtype)), str(out), *given]) == 0
    return out


@pytest.mark.parametrize(
    ("options", "suffixes"),
    [
        (["--tp_size", "2"], {"reduce_scale"}),
        (["--tp_size", "4", "--per-device"], {f"reduce_scale.{i}" for i in range(4)}),
        (["--tp_size", "2", "--anti_method", "m4", "--act_method", "3"], {"reduce_scale"}),
    ],
)
def test_directory_is_conformant(
    build: Build, calib_file: Path, tmp_path: Path, options: list[str], suffixes: set[str]
) -> None:
    dtype = "bfloat16" if "--per-device" in options else "float16"
    out = quantized(build, calib_file, tmp_path / "q", *options, dtype=dtype)
    report = judge(out)
    assert [r.requirement.id for r in report.failed if r.counts] == []
    assert {"RED-001", "RED-002", "RED-003"} <= {
        r.requirement.id for r in report.results if r.status == "passed"
    }
    made, ranks = open_checkpoint(out), int(options[1])
    assert made.description is not None
    assert made.description.get("reduce_quant_type") == "per_channel"
    own = {n.removeprefix(f"{DOWN}.") for n in made.table.names if n.startswith(f"{DOWN}.")}
    assert {s for s in own if not s.startswith("tp_list.")} == {"weight", "gather_scale", *suffixes}
    parts = [made.tensor(f"{DOWN}.tp_list.{i}.weight") for i in range(ranks)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), made.tensor(f"{DOWN}.weight"))
    assert f"{DOWN}.tp_list.{ranks}.weight" not in made.table
    assert "model.layers.1.mlp.up_proj.deq_scale" in made.table


@pytest.mark.parametrize("per_device", [False, True])
def test_one_text_is_summed_as_the_engine_does_with_the_stored_scales(per_device: bool) -> None:
    """Float32, where no step rounds more than `slimspec.matmul.reduce_quant` does."""
    rng = np.random.default_rng(0)
    partial = rng.standard_normal((4, 9, 16)).astype(np.float32)
    sums = Communication(Parallel(4, per_device))
    found = sums(list(partial))
    scales = sums.scales()
    gather = scales.pop("gather_scale")
    reduce = np.stack([scales[f"reduce_scale.{i}"] for i in range(4)]) if per_device else None
    given = scales["reduce_scale"] if reduce is None else reduce
    np.testing.assert_array_equal(found, reduce_quantized(partial, given, gather))
    peaks = np.abs(partial).max(axis=1)
    expected = peaks / np.float32(127) if per_device else peaks.max(axis=0) / np.float32(127)
    np.testing.assert_array_equal(given, expected)


def test_exact_sums_cut_linears_and_store_no_scales_of_sums(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    out = quantized(
        build, calib_file, tmp_path / "q", "--tp_size", "2", "--exact-sums", dtype="float16"
    )
    assert [r.requirement.id for r in judge(out).failed if r.counts] == []
    made = open_checkpoint(out)
    assert made.description is not None
    assert made.description.get("reduce_quant_type") is None
    own = {n.removeprefix(f"{DOWN}.") for n in made.table.names if n.startswith(f"{DOWN}.")}
    assert {s for s in own if not s.startswith("tp_list.")} == {"weight"}
    assert {"tp_list.0.deq_scale", "tp_list.1.deq_scale"} <= own
    partial = [np.full((1, 3), size, np.float16) for size in (0.1, 2048)]
    sums = Communication(Parallel(2, quantized=False))
    np.testing.assert_array_equal(sums(partial), partial[0] + partial[1])
    assert sums.scales() == {}


def test_scales_are_those_of_all_texts_and_rounding_that_of_one() -> None:
    sums = Communication(Parallel(2))
    small, large = (np.full((1, 3), size, np.float16) for size in (1, 8))
    sums([large, large])
    first = sums.scales()
    found = sums([small, small])
    assert sums.scales().keys() == first.keys()
    assert all((sums.scales()[name] == scale).all() for name, scale in first.items())
    np.testing.assert_allclose(found.astype(float), 2, rtol=2.0**-9)  # 127 steps of its own size


def test_silent_channel_stays_silent() -> None:
    sums = Communication(Parallel(2))
    y = np.zeros((3, 2), np.float32)
    y[:, 0] = 5
    assert sums([y, y])[:, 1].tolist() == [0, 0, 0]
    assert np.isfinite(sums([y, y])).all()


def test_row_parallel_linears_are_those_whose_columns_are_split() -> None:
    names = ("o_proj", "down_proj", "w2", "q_proj", "gate_proj", "lm_head", "unheard_of")
    assert [n for n in names if row_parallel(f"model.layers.0.x.{n}")] == list(names[:3])


def test_ranks_need_columns_that_divide_and_the_first_has_the_bias() -> None:
    cuts = Parallel(4).cuts
    parts = cuts(Linear(np.arange(16, dtype=np.float32).reshape(2, 8), None, "a.o_proj"))
    assert [p.name for p in parts] == [f"a.o_proj.tp_list.{i}" for i in range(4)]
    assert parts[1].weight.tolist() == [[2, 3], [10, 11]]
    with pytest.raises(CheckpointError, match="found 6 columns, expected a multiple of tp_size 4"):
        cuts(Linear(np.zeros((2, 6), np.float32), None, "a.o_proj"))
    biased = cuts(Linear(np.zeros((2, 8), np.float32), np.ones(2, np.float32), "a.o_proj"))
    assert [p.bias is None for p in biased] == [False, True, True, True]


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("llama", ["--tp_size", "3"], "set tp_size to one of them"),
        ("llama", [], "tp_size 2 or 4 or 8 or 16"),
        ("llama", ["--tp_size", "2", "--is_dynamic", "True"], "is_dynamic False"),
        ("llama", ["--tp_size", "2", "--pdmix"], "use_reduce_quant False"),
        ("llama", ["--tp_size", "2", "--producer", "A1"], "use_reduce_quant False"),
        ("qwen3_moe", ["--tp_size", "2"], "a model with experts"),
    ],
)
def test_mistake_is_one_line(
    build: Build,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    family: str,
    options: list[str],
    said: str,
) -> None:
    given = ["--calib_texts", "a", "--use_reduce_quant", "True", *options]
    assert main(["quantize", str(build(family)), str(tmp_path / "q"), *given]) == 4
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_quantized_sums_cost_little(build: Build, calib_file: Path, tmp_path: Path) -> None:
    """Evaluated from the integers of the ranks and the stored scales, beside plain W8A8."""
    source, cost = build("llama", "float16"), {}
    texts = encode_texts(read_texts(calib_file), source)
    whole = ["--calib_file", str(calib_file)]
    assert main(["quantize", str(source), str(tmp_path / "whole"), *whole]) == 0
    quantized(build, calib_file, tmp_path / "one", "--tp_size", "2", dtype="float16")
    quantized(
        build, calib_file, tmp_path / "each", "--tp_size", "2", "--per-device", dtype="float16"
    )
    for name in ("whole", "one", "each"):
        found = evaluate(source, tmp_path / name, texts)
        cost[name] = {linear.name: linear.sqnr for linear in found.linears}[DOWN]
    assert abs(cost["one"] - cost["whole"]) < 3  # dB; half of the noise more or less
    assert abs(cost["each"] - cost["whole"]) < 3

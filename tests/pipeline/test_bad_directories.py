"""Directories and options that must be refused with one clear line, and nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from slimspec.checkpoint import CheckpointError
from slimspec.cli import main
from slimspec.golden.tiny_models import write_float
from slimspec.pipeline.dequantize import dequantize_directory
from slimspec.pipeline.quantize import Plan, quantize_directory

MODULE = "model.layers.0.mlp.up_proj"
WEIGHT = f"{MODULE}.weight"


def rewrite(folder: Path, **changes: np.ndarray | None) -> None:
    """Replace (or with None drop) suffixes of one module."""
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    for suffix, array in changes.items():
        tensors.pop(f"{MODULE}.{suffix}", None)
        if array is not None:
            tensors[f"{MODULE}.{suffix}"] = array
    save_file(tensors, file, {"format": "pt"})


def relabel(folder: Path, label: str) -> None:
    (file,) = folder.glob("quant_model_description*.json")
    value = json.loads(file.read_text(encoding="utf-8"))
    for key in value:
        if key.startswith(MODULE):
            value[key] = label
    file.write_text(json.dumps(value), encoding="utf-8")


def make_float(folder: Path, shape: tuple[int, int], value: float | None = None) -> Path:
    """A float16 model of one linear, `MODULE`."""
    write_float(folder, "fp16")
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    w = np.random.default_rng(7).standard_normal(shape).astype(np.float16)
    if value is not None:
        w[0] = value
    save_file({WEIGHT: w}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    write_float(tmp_path / "float", "fp16")
    plan = Plan("W8A8_DYNAMIC", part_file_size=0)
    quantize_directory(tmp_path / "float", tmp_path / "q", plan)
    return tmp_path / "q"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weight": np.zeros((128, 64), np.float32)}, r"weight'.*dtype F32.*expected I8"),
        ({"weight": np.zeros((), np.int8)}, r"weight'.*shape \[\].*expected \[n, k\]"),
        ({"weight": np.zeros(128, np.int8)}, r"weight'.*shape \[128\].*expected \[n, k\]"),
        ({"weight": np.zeros((128, 0), np.int8)}, r"weight'.*shape \[128, 0\]"),
        ({"weight_scale": np.zeros((128, 1), np.int8)}, r"weight_scale'.*dtype I8"),
        ({"weight_scale": np.ones((), np.float32)}, r"weight_scale'.*shape \[\]"),
        ({"weight_scale": np.ones((3, 1), np.float32)}, r"weight_scale'.*shape \[3, 1\].*= \["),
        ({"weight_offset": np.zeros((128, 1), ml_dtypes.float8_e4m3fn)}, "weight_offset'.*F8_E4M3"),
        ({"deq_scale": np.ones(128, np.float32)}, "deq_scale'.*expected no such tensor"),
        ({"weight_scale": None}, f"{MODULE}.*needs weight_scale"),
    ],
    ids=[
        "float weight",
        "0-d weight",
        "1-d weight",
        "no columns",
        "integer scale",
        "0-d scale",
        "short scale",
        "float8 offset",
        "foreign tensor",
        "missing scale",
    ],
)
def test_dequantize_names_the_tensor_that_its_type_does_not_have(
    quantized: Path, tmp_path: Path, changes: dict, told: str
) -> None:
    rewrite(quantized, **changes)
    with pytest.raises(CheckpointError, match=told):
        dequantize_directory(quantized, tmp_path / "f")
    assert not list(tmp_path.glob("f.*")) + list(tmp_path.glob("f"))


def test_dequantize_refuses_the_tensors_of_another_type(tmp_path: Path) -> None:
    write_float(tmp_path / "float", "fp16")
    plan = Plan("W8A8", producer="A0", ranges={"*": (-2.0, 3.0)}, part_file_size=0)
    quantize_directory(tmp_path / "float", tmp_path / "q", plan)
    relabel(tmp_path / "q", "W4A16")
    with pytest.raises(CheckpointError, match=rf"tensor '{MODULE}\.\w+': found .*expected .*W4A16"):
        dequantize_directory(tmp_path / "q", tmp_path / "f")


def test_dequantize_points_from_parts_to_decompress(quantized: Path, tmp_path: Path) -> None:
    (quantized / "part0-of-1").mkdir()
    with pytest.raises(CheckpointError, match="slimspec decompress"):
        dequantize_directory(quantized, tmp_path / "f")


def test_shard_that_cannot_be_opened_is_said_to_be(quantized: Path, tmp_path: Path) -> None:
    (quantized / "z.safetensors").symlink_to(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"z\.safetensors.*cannot be read"):
        dequantize_directory(quantized, tmp_path / "f")


@pytest.mark.parametrize("rows", [4, 6, 12])
def test_int4_rows_that_no_engine_can_view_are_refused(tmp_path: Path, rows: int) -> None:
    source = make_float(tmp_path / "f", (rows, 32))
    with pytest.raises(CheckpointError, match=rf"{rows} rows; .*multiple of 8.*--exclude {MODULE}"):
        quantize_directory(source, tmp_path / "q", Plan("W4A8_DYNAMIC"))
    assert not (tmp_path / "q").exists()


def test_int4_rows_of_eight_are_taken(tmp_path: Path) -> None:
    source = make_float(tmp_path / "f", (8, 32))
    assert quantize_directory(source, tmp_path / "q", Plan("W4A8_DYNAMIC")) == 1


@pytest.mark.parametrize("producer", ["A0", "A1"])
def test_deq_scale_that_vanishes_in_float16_is_refused(tmp_path: Path, producer: str) -> None:
    source = make_float(tmp_path / "f", (8, 32), 1e-7)
    plan = Plan("W8A8", producer=producer, ranges={"*": (-0.1, 0.1)})
    with pytest.raises(CheckpointError, match=rf"{MODULE}\.deq_scale: found 0\.0.*--exclude"):
        quantize_directory(source, tmp_path / "q", plan)


def test_row_of_zeros_may_have_no_scale(tmp_path: Path) -> None:
    source = make_float(tmp_path / "f", (8, 32), 0)
    plan = Plan("W8A8", ranges={"*": (-0.1, 0.1)})
    assert quantize_directory(source, tmp_path / "q", plan) == 1


@pytest.mark.parametrize(
    ("plan", "shape"),
    [(Plan("W4A16", producer="A0"), (8, 31)), (Plan("W8A16", group_size=48), (8, 64))],
    ids=["odd", "group"],
)
def test_size_that_does_not_suit_tells_how_to_leave_the_linear_out(tmp_path, plan, shape):
    source = make_float(tmp_path / "f", shape)
    with pytest.raises(CheckpointError, match=f"--exclude {MODULE}$"):
        quantize_directory(source, tmp_path / "q", plan)


def test_range_beyond_the_model_dtype_is_one_error(tmp_path: Path) -> None:
    source = make_float(tmp_path / "f", (8, 32))
    with pytest.raises(CheckpointError, match=MODULE):
        quantize_directory(source, tmp_path / "q", Plan("W8A8", ranges={"*": (-1e300, 1e300)}))


def test_saturated_quant_bias_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_float(tmp_path / "f", (8, 32))
    tensors = load_file(source / "model.safetensors")
    tensors[f"{MODULE}.bias"] = np.full(8, 60000, np.float16)
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    plan = Plan("W8A8", ranges={"*": (-0.1, 0.1)})
    quantize_directory(source, tmp_path / "q", plan)
    assert [r.getMessage() for r in caplog.records] == [
        "warning: quant_bias is -2^31 in 1 linears, where deq_scale is 0 or bias / deq_scale "
        f"overflows as in the producer ({MODULE})"
    ]


@pytest.mark.parametrize("command", ["quantize", "dequantize"])
def test_output_inside_the_source_is_refused(quantized: Path, tmp_path: Path, command) -> None:
    source = tmp_path / "float" if command == "quantize" else quantized
    before = sorted(source.iterdir())
    scheme = ["--scheme", "W8A16"] if command == "quantize" else []
    assert main([command, str(source), str(source / "out"), *scheme]) == 4
    assert sorted(source.iterdir()) == before


@pytest.mark.parametrize("size", ["-1", "nan", "inf", "x", "1e-12"])
@pytest.mark.parametrize("command", ["quantize", "dequantize"])
def test_size_of_a_shard_is_checked_at_once(tmp_path, capsys, command, size):
    arguments = [command, str(tmp_path), str(tmp_path / "o"), f"--part-file-size={size}"]
    assert main(arguments) == 4
    assert f"found '{size}', expected 0 or a size in GiB" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["--group-size=-1", "--max-tokens=-2", "--group-size=1.5"])
def test_negative_counts_are_usage_errors(tmp_path, capsys, given):
    assert main(["quantize", str(tmp_path), str(tmp_path / "o"), given]) == 4
    assert "expected an integer, 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["--group_size=-1", "--part_file_size=-1"])
def test_negative_parameters_are_usage_errors(quantized, tmp_path, capsys, given):
    arguments = ["quantize", str(tmp_path / "float"), str(tmp_path / "o"), "--w_bit=8", given]
    assert main([*arguments, "--a_bit=16"]) == 4
    assert given[2:].partition("=")[0] in capsys.readouterr().err


def test_termination_leaves_nothing_behind(tmp_path: Path) -> None:
    write_float(tmp_path / "f", "fp16")
    program = (
        "import os, signal, sys\n"
        "from slimspec.checkpoint.writer import CheckpointWriter\n"
        "from slimspec.cli import main\n"
        "plain = CheckpointWriter.write\n"
        "def write(*args):\n"
        "    plain(*args)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "CheckpointWriter.write = write\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["quantize", str(tmp_path / "f"), str(tmp_path / "q"), "--scheme", "W8A16"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True)
    assert done.returncode == 2, done.stderr
    assert not list(tmp_path.glob("q*"))


def test_type_is_written_by_a_producer_that_has_it(tmp_path: Path, capsys) -> None:
    write_float(tmp_path / "f", "fp16")
    arguments = ["quantize", str(tmp_path / "f"), str(tmp_path / "q"), "--scheme", "W4A16"]
    assert main([*arguments, "--producer", "A1"]) == 4
    assert "W4A16 is not written by A1, only by L0, A0" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()
    assert main(arguments) == 0
    assert "profile A0" in capsys.readouterr().out

"""What cannot be compressed is refused in one line; output appears whole or not at all."""

import numpy as np
import pytest
from sparse_model import LINEAR, Model

from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.pipeline.compress import Options, compress_directory
from slimspec.pipeline.decompress import decompress_directory


def put(model, suffix, array, label="W8A8S"):
    """Give the up projection another tensor."""
    model.extra[f"{LINEAR}.{suffix}"] = (array, label)


REFUSED = {
    "no rule for a sparse linear": (
        lambda m: m.extra.update(m._linear("model.layers.0.mlp.odd_proj", 8, 8)),
        r"odd_proj\.weight': names of hf have no tensor-parallel rule",
    ),
    "foreign label": (
        lambda m: put(m, "weight", np.zeros((40, 48), np.int8), "W8A16"),
        r"up_proj\.weight': found label W8A16, expected one of W8A8S, FLOAT",
    ),
    "missing tensor": (
        lambda m: setattr(m, "drop", (f"{LINEAR}.deq_scale",)),
        r"up_proj\.deq_scale' is missing",
    ),
    "float deq_scale": (
        lambda m: put(m, "deq_scale", np.ones(40, np.float32)),
        r"up_proj\.deq_scale': found F32, expected I64",
    ),
    "one deq_scale for the matrix": (
        lambda m: put(m, "deq_scale", np.ones(1, np.int64)),
        r"up_proj\.deq_scale': found \[1\], expected \[n\] = \[40\]",
    ),
    "wrong length": (
        lambda m: put(m, "quant_bias", np.ones(39, np.int32)),
        r"up_proj\.quant_bias': found \[39\], expected \[n\] = \[40\]",
    ),
    "offset out of range": (
        lambda m: put(m, "input_offset", np.array([128], np.float16)),
        r"up_proj\.input_offset': found 128\.0, expected an integer in \[-128, 127\]",
    ),
    "offset not integral": (
        lambda m: put(m, "input_offset", np.array([0.5], np.float16)),
        r"up_proj\.input_offset': found 0\.5, expected an integer",
    ),
    "scale below float16": (
        lambda m: put(m, "input_scale", np.array([1e-9], np.float32)),
        r"up_proj\.input_scale': found .*, expected a scale that float16 can hold",
    ),
    "heads without a number": (
        lambda m: m.config.update({"num_attention_heads": "four"}),
        r"num_attention_heads: found four, expected a count",
    ),
    "heads in no groups": (
        lambda m: m.config.update({"num_attention_heads": 3, "num_key_value_heads": 2}),
        r"found 3 and 2, expected a multiple",
    ),
    "rows that are no heads": (
        lambda m: m.config.update({"num_attention_heads": 5, "num_key_value_heads": 5}),
        r"q_proj\.weight': rows of 48: it is no multiple of num_attention_heads = 5",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_source_that_cannot_be_compressed_is_refused_in_one_line(tmp_path, case):
    change, text = REFUSED[case]
    model = Model()
    change(model)
    source = model.write(tmp_path / "s")
    with pytest.raises(CheckpointError, match=text) as refused:
        compress_directory(source, tmp_path / "p", Options())
    assert "\n" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_rows_that_do_not_divide_are_refused(tmp_path):
    model = Model()
    model.config |= {"num_attention_heads": 16, "num_key_value_heads": 8}
    source = model.write(tmp_path / "s")
    with pytest.raises(CheckpointError, match=r"gate_proj\.weight': rows of 40: 40 do not divide"):
        compress_directory(source, tmp_path / "p", Options(tp=16))


def test_other_directories_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="expected a directory of type W8A8S or W16A16S"):
        compress_directory(tmp_path / "empty", tmp_path / "p", Options())
    source = Model().write(tmp_path / "s")
    with pytest.raises(CheckpointError, match="expected part directories"):
        decompress_directory(source, tmp_path / "b")
    compress_directory(source, tmp_path / "p", Options())
    with pytest.raises(CheckpointError, match="found part directories"):
        compress_directory(tmp_path / "p", tmp_path / "q", Options())
    for tp in (0, -1, 1 << 20):
        with pytest.raises(CheckpointError, match=r"tp .*: expected 1 to 1024"):
            compress_directory(source, tmp_path / "q", Options(tp=tp))


def test_output_is_replaced_only_when_asked(tmp_path):
    source = Model().write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options(tp=2))
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        compress_directory(source, tmp_path / "p", Options())
    assert (tmp_path / "p" / "part1-of-2").is_dir()
    compress_directory(source, tmp_path / "p", Options(), overwrite=True)
    assert [p.name for p in (tmp_path / "p").glob("part*")] == ["part0-of-1"]
    with pytest.raises(CheckpointError, match="the output would replace its source"):
        compress_directory(source, source, Options(), overwrite=True)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, CheckpointError("x")])
def test_interrupt_leaves_nothing_behind(tmp_path, stop):
    def progress(nbytes):
        raise stop

    source = Model().write(tmp_path / "s")
    with pytest.raises((KeyboardInterrupt, CheckpointError)):
        compress_directory(source, tmp_path / "p", Options(tp=2), progress=progress)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    compress_directory(source, tmp_path / "p", Options(tp=2))
    with pytest.raises((KeyboardInterrupt, CheckpointError)):
        decompress_directory(tmp_path / "p", tmp_path / "b", progress=progress)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p", "s"]


def test_progress_counts_every_byte(tmp_path):
    source = Model().write(tmp_path / "s")
    seen = []
    compress_directory(source, tmp_path / "p", Options(tp=4, names="mindie"), progress=seen.append)
    assert sum(seen) == open_checkpoint(source).table.nbytes
    seen.clear()
    decompress_directory(tmp_path / "p", tmp_path / "b", progress=seen.append)
    parts = open_checkpoint(tmp_path / "p").parts
    assert sum(seen) == sum(part.checkpoint.table.nbytes for part in parts)

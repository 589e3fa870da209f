"""Parts back to a directory: what does not fit together is named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sparse_model import LINEAR, Model, assert_same

from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.pipeline.compress import Options, compress_directory
from slimspec.pipeline.decompress import decompress_directory


@pytest.fixture
def parts(tmp_path):
    source = Model().write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options(tp=2))
    shutil.rmtree(source)
    return tmp_path / "p"


def rewrite(part: Path, name: str, change) -> None:
    """Change the bytes of one tensor in place."""
    tensor = open_checkpoint(part)
    row = tensor.table.row(tensor.table.index(name))
    file = part / row.file
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[row.begin : row.end] = change(bytes(data[row.begin : row.end]))
    file.write_bytes(data)


def refused(parts: Path, text: str) -> None:
    with pytest.raises(CheckpointError, match=text) as error:
        decompress_directory(parts, parts.parent / "b")
    assert "\n" not in str(error.value)
    assert [p.name for p in parts.parent.iterdir()] == ["p"]


def test_missing_part_is_refused(parts):
    shutil.rmtree(parts / "part0-of-2")
    refused(parts, r"found part1-of-2, expected part0-of-N to part.N-1.-of-N")


def test_parts_of_two_splits_are_refused(parts):
    (parts / "part1-of-2").rename(parts / "part1-of-3")
    refused(parts, "found part0-of-2, part1-of-3, expected")


def test_part_with_other_labels_is_refused(parts):
    path = parts / "part1-of-2" / "quant_model_description.json"
    text = path.read_text().replace(f'"{LINEAR}.weight": "W8A8SC"', f'"{LINEAR}.weight": "FLOAT"')
    path.write_text(text)
    refused(parts, "part1-of-2: 'a label' differs from")


def test_broken_stream_is_named_with_its_part_and_tile(parts):
    def flip(data):
        return bytes([data[0] ^ 0xFF]) + data[1:]

    rewrite(parts / "part1-of-2", f"{LINEAR}.weight", flip)
    refused(parts, rf"part1-of-2: .*tensor '{LINEAR}\.weight': tile 0, engine 0, bit 0: marker")


def test_bias_on_a_later_rank_is_refused(parts):
    name = "model.layers.0.mlp.down_proj.quant_bias"
    rewrite(parts / "part1-of-2", name, lambda data: b"\1" + data[1:])
    refused(parts, r"down_proj\.quant_bias': rank 1 is not zero, so that it would be added again")


def test_tensor_that_must_be_equal_in_all_parts_is_compared(parts):
    rewrite(parts / "part1-of-2", "model.norm.weight", lambda data: b"\1" + data[1:])
    refused(parts, r"model\.norm\.weight': rank 1 differs from rank 0, expected the same in all")


def test_rows_that_are_no_heads_are_refused(parts):
    config = json.loads((parts / "config.json").read_text())
    (parts / "config.json").write_text(json.dumps(config | {"num_attention_heads": 10}))
    refused(parts, "ranks hold 24, 24, expected whole heads: 5, 5")


def test_one_part_opened_by_itself_comes_back(tmp_path):
    source = Model().write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options())
    decompress_directory(tmp_path / "p" / "part0-of-1", tmp_path / "b")
    assert_same(source, tmp_path / "b")


def test_names_are_found_out_or_stated(tmp_path):
    source = Model().write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options(tp=2, names="mindie"))
    decompress_directory(tmp_path / "p", tmp_path / "b", names="mindie")
    assert_same(source, tmp_path / "b")
    with pytest.raises(CheckpointError, match="rank 1 differs from rank 0"):
        decompress_directory(tmp_path / "p", tmp_path / "c", names="hf")


def test_options_default_to_one_plain_part():
    assert replace(Options(), tp=1) == Options() == Options(names="hf")

"""Every recorded checkpoint opens without a defect and is recognised as what wrote it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors import safe_open

from slimspec.checkpoint import Checkpoint, open_checkpoint
from slimspec.checkpoint.naming import (
    STYLES,
    description_name,
    index_name,
    order_description,
    weights_names,
)
from slimspec.checkpoint.shard import Record, encode_header, storage_key


def _saver(case: Path) -> str:
    """Return the profile that the recipe's saver writes."""
    recipe = yaml.safe_load((case / "calib" / "config.yaml").read_text())
    savers = {save["type"] for save in recipe["spec"]["save"]}
    names = {"mindie_format_saver": "MF", "compressed_tensors": "CTS"}
    return names.get(savers.pop(), "A1") if len(savers) == 1 else "A1"


def _expected(oracle: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield each checkpoint directory with the profile that its recording implies."""
    for case in sorted((oracle / "checkpoints").iterdir()):
        quant = case / "quant"
        if (quant / "ascendV1").is_dir():
            yield quant / "ascendV1", "A0"
            yield quant / "safe_tensor", "L0"
        elif (case / "calib" / "config.yaml").is_file():
            yield quant, _saver(case)
        elif any(quant.glob("quant_model_description*.json")):
            yield quant, "SC"  # neither recipe nor save types: the compressor's output
        else:
            yield quant, None  # a float model whose outliers were suppressed


@pytest.fixture(scope="module")
def checkpoints(oracle: Path) -> list[tuple[Checkpoint, str | None]]:
    found = [(open_checkpoint(path), profile) for path, profile in _expected(oracle)]
    assert found
    return found


Cases = list[tuple[Checkpoint, str | None]]


def test_every_checkpoint_has_the_profile_of_its_writer(checkpoints: Cases) -> None:
    found = {str(c.path): (c.profile.name, c.profile.conflicts) for c, _ in checkpoints}
    assert found == {str(c.path): (profile, ()) for c, profile in checkpoints}


def test_every_checkpoint_is_of_the_family_or_float(checkpoints: Cases) -> None:
    found = {str(c.path): c.kind for c, _ in checkpoints}
    names = {None: "float", "CTS": "compressed-tensors"}
    kinds = {str(c.path): names.get(p, "msmodelslim") for c, p in checkpoints}
    assert found == kinds


def test_no_checkpoint_has_a_defect(checkpoints: Cases) -> None:
    defects = {str(c.path): [d.message for d in c.defects] for c, _ in checkpoints}
    assert {path: messages for path, messages in defects.items() if messages} == {}


def test_every_model_dtype_is_known_without_conflict(checkpoints: Cases) -> None:
    for checkpoint, _ in checkpoints:
        assert checkpoint.model_dtype in ("F16", "BF16", "F32"), checkpoint
        assert checkpoint.model_dtype_conflict is None, checkpoint


def test_bytes_are_those_that_the_library_reads(checkpoints: Cases) -> None:
    for checkpoint, _ in checkpoints:
        for shard in checkpoint.shards:
            with safe_open(shard.path, framework="np") as library:
                for entry in shard.entries:
                    if entry.dtype == "F16" or entry.dtype[0] in "IU":
                        expected = library.get_tensor(entry.name)
                        found = checkpoint.tensor(entry.name)
                        assert found.dtype == expected.dtype
                        assert found.shape == expected.shape
                        assert np.array_equal(found.view(np.uint8), expected.view(np.uint8))


def test_description_and_tensors_name_each_other(checkpoints: Cases) -> None:
    for checkpoint, profile in checkpoints:
        if profile in ("L0", "A0", "MF", "SC"):
            assert checkpoint.description is not None
            assert set(checkpoint.description.labels) == set(checkpoint.table.names)


def test_our_writer_would_encode_the_same_headers(checkpoints: Cases) -> None:
    for checkpoint, _ in checkpoints:
        for shard in checkpoint.shards:
            records = [Record(e.name, e.dtype, e.shape, e.end - e.begin) for e in shard.entries]
            header = encode_header(sorted(records, key=storage_key), shard.metadata)
            assert header == shard.path.read_bytes()[: shard.data_start], shard.path


def test_our_writer_would_write_the_same_descriptions(checkpoints: Cases) -> None:
    for checkpoint, profile in checkpoints:
        found = checkpoint.description
        if profile not in STYLES or found is None or profile is None:
            continue
        more = {key: found.metadata[key] for key in found.metadata if key not in _OURS}
        label, group = found.get("model_quant_type"), found.get("group_size", 0)
        members = order_description(profile, label, group, found.labels, more)
        text = json.dumps(members, indent=STYLES[profile].indent, ensure_ascii=False)
        assert text == found.path.read_text(encoding="utf-8"), found.path


_OURS = ("version", "model_quant_type", "group_size")


def test_our_writer_would_name_the_same_files(checkpoints: Cases) -> None:
    for checkpoint, profile in checkpoints:
        found = checkpoint.description
        if profile not in STYLES or found is None or profile is None:
            continue
        label = found.get("model_quant_type")
        if label is None:  # nothing is quantized: our writer makes no such directory
            continue
        shards = len(checkpoint.shards) if checkpoint.indexes else None
        indexes = [index_name(profile, label)] if checkpoint.indexes else []
        assert [index.name for index in checkpoint.indexes] == indexes
        assert checkpoint.table.files == weights_names(profile, label, shards)
        assert found.name == description_name(profile, label)

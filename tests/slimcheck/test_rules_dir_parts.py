"""Rules of DIR about directories that are cut for a number of ranks."""

import json

import pytest

from slimcheck.engine import Options
from slimcheck.engine import judge as run_judge
from slimspec.checkpoint import open_checkpoint

OPTION = {"dp": 1, "tp": 2, "moe_tp": 1, "moe_ep": 1}
FOLDERS = ("model-norm", "model-000", "model-001", "model-attn-tp-000", "model-attn-tp-001")


def ids(directory, **options):
    results = run_judge(open_checkpoint(directory), Options(level="layout", **options))
    cut = {f"DIR-{i:03}" for i in range(14, 21)}
    return {r.requirement.id: r for r in results if r.groups and r.requirement.id in cut}


def parts(builders, tmp_path, *numbers, world=2):
    draft = builders.make("SC", "W8A8SC")
    for rank in numbers:
        draft.rank, draft.world = rank, world
        draft.write(tmp_path / "x")
    return tmp_path / "x"


def test_all_parts_are_valid(builders, tmp_path):
    assert ids(parts(builders, tmp_path, 0, 1)).keys() == set()


def test_part_that_is_absent(builders, tmp_path):
    found = ids(parts(builders, tmp_path, 1))
    assert found.keys() == {"DIR-014"}
    assert found["DIR-014"].groups[0].found == "part1-of-2"


def test_part_that_cannot_be_read(builders, tmp_path, monkeypatch):
    from slimspec.checkpoint import CheckpointError, directory

    listed = directory.list_directory

    def refuse(path):
        if path.name == "part1-of-2":
            raise CheckpointError(f"{path}: cannot be read: Permission denied")
        return listed(path)

    monkeypatch.setattr(directory, "list_directory", refuse)
    gap, unread = ids(parts(builders, tmp_path, 0, 1))["DIR-014"].groups[::-1]
    assert (unread.kind, unread.file) == ("unreadable", "part1-of-2")
    assert unread.found.endswith("part1-of-2: cannot be read: Permission denied")
    assert (gap.kind, gap.found) == ("ranks", "part0-of-2")


def test_parts_of_two_numbers(builders, tmp_path):
    parts(builders, tmp_path, 0, 1)
    assert ids(parts(builders, tmp_path, 0, world=1)).keys() == {"DIR-014"}


def test_absurd_number_of_parts_is_named_not_counted(builders, tmp_path):
    directory = parts(builders, tmp_path, 0)
    (directory / "part0-of-2").rename(directory / f"part0-of-{10**17}")
    assert ids(directory).keys() == {"DIR-014"}


@pytest.mark.parametrize("alone", [False, True])
def test_second_weights_file_in_a_part(builders, tmp_path, alone):
    part = parts(builders, tmp_path, 0, 1) / "part0-of-2"
    weights = part / "quant_model_weight_w8a8sc.safetensors"
    (part / "quant_model_weight_w8a8.safetensors").write_bytes(weights.read_bytes())
    assert ids(part if alone else part.parent).keys() == {"DIR-015"}


@pytest.mark.parametrize(
    ("quantize", "expected"), [("w8a8s", {"DIR-017"}), ("w8a8sc", set()), ([], {"DIR-017"})]
)
def test_config_of_parts(builders, tmp_path, quantize, expected):
    directory = parts(builders, tmp_path, 0, 1)
    (directory / "config.json").write_text(json.dumps({"quantize": quantize}))
    assert ids(directory).keys() == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0-part-0", "1-part-0"], set()),
        (["1-part-0"], {"DIR-018"}),
        (["0-part-0", "2-part-0"], {"DIR-018"}),
        (["0-part-0", "1-part-1"], {"DIR-018"}),
    ],
)
def test_ranks_of_sharded_state(builders, tmp_path, names, expected):
    directory = builders.make("A1", "W8A8").write(tmp_path / "x")
    weights = directory / "quant_model_weights.safetensors"
    for name in names:
        (directory / f"model-rank-{name}.safetensors").write_bytes(weights.read_bytes())
    weights.unlink()
    assert ids(directory).keys() == expected


def offline(builders, tmp_path, **changes):
    """A directory of offline shards for two ranks: folders with one file each."""
    directory = builders.make("A1", "W8A8").write(tmp_path / "x")
    sharded = {name: ["a.safetensors"] for name in FOLDERS}
    stated = {"world_size": 2, "parallel_option": OPTION, "model_sharded": sharded} | changes
    (directory / "model_sharded_metadata.json").write_text(json.dumps(stated))
    for name in FOLDERS:
        (directory / name).mkdir()
        (directory / name / "a.safetensors").write_bytes(b"")
    return directory


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        ({"world_size": "2"}, {"DIR-019"}),
        ({"world_size": True}, {"DIR-019"}),
        ({"parallel_option": {"tp": 2}}, {"DIR-019"}),
        ({"parallel_option": []}, {"DIR-019"}),
        ({"model_sharded": []}, {"DIR-019"}),
        ({"model_sharded": {}}, set()),
        ({"world_size": 3}, {"DIR-020"}),
        ({"parallel_option": OPTION | {"tp": 1}}, {"DIR-020"}),
    ],
)
def test_metadata_of_offline_shards(builders, tmp_path, changes, expected):
    assert ids(offline(builders, tmp_path, **changes)).keys() == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"model-dense-tp-000": []}, {"DIR-020"}),  # listed, not there
        ({"../outside": []}, {"DIR-019"}),
        ({"model-norm": ["b.safetensors"]}, {"DIR-019"}),
        ({"model-norm": [3, None]}, {"DIR-019"}),
        ({"model-norm": "a.safetensors"}, {"DIR-019"}),
    ],
)
def test_folders_of_offline_shards(builders, tmp_path, entry, expected):
    sharded = {name: ["a.safetensors"] for name in FOLDERS} | entry
    directory = offline(builders, tmp_path, model_sharded=sharded)
    assert ids(directory).keys() == expected


def test_folder_that_is_absent_is_named(builders, tmp_path):
    directory = offline(builders, tmp_path)
    (directory / "model-001" / "a.safetensors").unlink()
    (directory / "model-001").rmdir()
    found = ids(directory)
    assert found.keys() == {"DIR-020"}
    assert found["DIR-020"].groups[0].found == "no model-001"

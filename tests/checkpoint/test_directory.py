import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint

Put = Callable[[str, bytes | str], Path]


def weights(**tensors: Any) -> bytes:
    return save({name.replace("__", "."): np.asarray(value) for name, value in tensors.items()})


PLAIN = weights(a__weight=np.ones((2, 2), np.float16))
A1 = {
    "version": "1.0.0",
    "model_quant_type": "W8A8",
    "metadata": {},
    "group_size": 0,
    "optional": {},
}


# --- what cannot be opened ----------------------------------------------------------------------


def test_missing_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such directory$") as caught:
        open_checkpoint(tmp_path / "no")
    assert "\n" not in str(caught.value)


def test_file_is_not_a_directory(put: Put) -> None:
    with pytest.raises(CheckpointError, match=r"not a directory$"):
        open_checkpoint(put("m.safetensors", PLAIN))


@pytest.mark.parametrize("path", ["a\x00b", "x" * 5000])
def test_impossible_path_is_one_line(path: str) -> None:
    with pytest.raises(CheckpointError):
        open_checkpoint(path)


def test_empty_directory_is_unknown_and_foreign(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.kind, checkpoint.profile.name, len(checkpoint.table)) == ("unknown", None, 0)
    assert checkpoint.foreign is not None
    assert "\n" not in checkpoint.foreign


# --- profiles -----------------------------------------------------------------------------------


def profile_of(checkpoint: Checkpoint) -> str | None:
    assert checkpoint.profile.evidence
    return checkpoint.profile.name


def described(
    put: Put, name: str, value: dict[str, Any], file: str, raw: bytes = PLAIN
) -> Checkpoint:
    put(file, raw)
    return open_checkpoint(put(name, json.dumps(value)).parent)


def test_all_three_keys_make_a1(put: Put) -> None:
    checkpoint = described(
        put, "quant_model_description.json", A1, "quant_model_weights.safetensors"
    )
    assert profile_of(checkpoint) == "A1"
    assert (checkpoint.kind, checkpoint.foreign) == ("msmodelslim", None)
    assert checkpoint.profile.conflicts == ()


@pytest.mark.parametrize("missing", ["metadata", "group_size", "optional"])
def test_one_key_less_makes_a0_and_the_file_name_conflicts(put: Put, missing: str) -> None:
    value = {key: member for key, member in A1.items() if key != missing}
    checkpoint = described(
        put, "quant_model_description.json", value, "quant_model_weights.safetensors"
    )
    assert profile_of(checkpoint) == "A0"
    assert len(checkpoint.profile.conflicts) == 1


def test_new_name_without_version_is_l0_with_a_conflict(put: Put) -> None:
    value = {"model_quant_type": "W8A8"}
    checkpoint = described(
        put, "quant_model_description.json", value, "quant_model_weight_w8a8.safetensors"
    )
    assert profile_of(checkpoint) == "L0"
    assert "no version" in checkpoint.profile.conflicts[0]


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"a__deq_scale": np.ones(2, np.float32)}, "MF"),
        ({"a__deq_scale": np.ones(2, np.int64)}, "L0"),
        ({"a__deq_scale": np.ones(2, np.float32), "a__weight_scale": np.ones(2, np.float16)}, "L0"),
        ({"b__weight": np.ones(2, np.float32)}, "L0"),
    ],
)
def test_typed_name_is_mf_or_l0_by_its_static_linears(
    put: Put, tensors: dict[str, Any], expected: str
) -> None:
    value = {"model_quant_type": "W8A8"} | {name.replace("__", "."): "W8A8" for name in tensors}
    checkpoint = described(
        put, "quant_model_description_w8a8.json", value, "quant_model_weight_w8a8.safetensors",
        weights(**tensors),
    )  # fmt: skip
    assert profile_of(checkpoint) == expected


def test_shards_without_a_type_are_mf(put: Put) -> None:
    value = {"model_quant_type": "W8A8_DYNAMIC", "a.weight": "W8A8_DYNAMIC"}
    file = "quant_model_weight-00001-of-00001.safetensors"
    checkpoint = described(put, "quant_model_description_w8a8_dynamic.json", value, file)
    assert profile_of(checkpoint) == "MF"


def test_type_that_only_the_newer_tool_has_is_mf(put: Put) -> None:
    value = {"model_quant_type": "W8A8_MXFP8", "a.weight": "W8A8_MXFP8"}
    file = "quant_model_weight_w8a8_mxfp8.safetensors"
    checkpoint = described(put, "quant_model_description_w8a8_mxfp8.json", value, file)
    assert profile_of(checkpoint) == "MF"


DYNAMIC = {"b.weight_scale": "W8A8_DYNAMIC", "a.weight": "FLOAT"}
TYPE = {"model_quant_type": "W8A8_DYNAMIC"}


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [
        (DYNAMIC | TYPE, np.ones((2, 1), np.float32), "MF"),
        (TYPE | DYNAMIC, np.ones((2, 1), np.float32), "L0"),
        (DYNAMIC | TYPE, np.ones((2, 1), np.float16), "L0"),
        (DYNAMIC | TYPE, np.ones((2, 2), np.float32), "L0"),
        (dict(sorted((DYNAMIC | TYPE).items())), np.ones((2, 1), np.float32), "L0"),
    ],
    ids=["type last", "type first", "scale of a narrow model", "groups", "sorted"],
)
def test_dynamic_linears_are_mf_where_their_type_stands_last(
    put: Put, value: dict[str, str], scale: np.ndarray, expected: str
) -> None:
    tensors = {"b__weight_scale": scale, "a__weight": np.ones(2, np.float16)}
    checkpoint = described(
        put, "quant_model_description_w8a8_dynamic.json", value,
        "quant_model_weight_w8a8_dynamic.safetensors", weights(**tensors),
    )  # fmt: skip
    assert profile_of(checkpoint) == expected


def test_unquantized_directory_without_a_type_is_mf(put: Put) -> None:
    file, name = "quant_model_weight.safetensors", "quant_model_description.json"
    assert profile_of(described(put, name, {"a.weight": "FLOAT"}, file)) == "MF"
    assert profile_of(described(put, name, {"a.weight": "W8A8"}, file)) == "L0"


def test_two_typed_descriptions_are_no_profile(put: Put) -> None:
    put("quant_model_description_w8a8.json", "{}")
    checkpoint = open_checkpoint(put("quant_model_description_w8a16.json", "{}").parent)
    assert checkpoint.profile.name is None
    assert checkpoint.description is None
    assert len(checkpoint.description_candidates) == 2
    assert "several" in checkpoint.profile.conflicts[0]
    assert checkpoint.kind == "msmodelslim"


def test_unreadable_description_leaves_the_file_names(put: Put) -> None:
    put("quant_model_weight_w8a8.safetensors", PLAIN)
    checkpoint = open_checkpoint(put("quant_model_description.json", "{,}").parent)
    assert profile_of(checkpoint) == "A0"
    assert [defect.code for defect in checkpoint.defects] == ["json-syntax"]


def test_compressed_type_alone_is_one_part(put: Put) -> None:
    value = {"model_quant_type": "W8A8SC", "version": "1.0.0"}
    checkpoint = described(
        put, "quant_model_description.json", value, "quant_model_weight_w8a8sc.safetensors"
    )
    assert profile_of(checkpoint) == "SC"
    assert checkpoint.parts == []


def test_part_directories_are_opened_by_rank(put: Put, tmp_path: Path) -> None:
    for rank in (1, 0):
        put(f"part{rank}-of-2/quant_model_weight_w8a8sc.safetensors", PLAIN)
        put(f"part{rank}-of-2/quant_model_description.json", json.dumps(A1))
    put("config.json", '{"torch_dtype": "float16"}')
    checkpoint = open_checkpoint(tmp_path)
    assert profile_of(checkpoint) == "SC"
    assert [(part.rank, part.world) for part in checkpoint.parts] == [(0, 2), (1, 2)]
    assert all(part.checkpoint.profile.name == "SC" for part in checkpoint.parts)
    assert checkpoint.parts[0].checkpoint.tensor("a.weight").shape == (2, 2)
    assert checkpoint.nested == []


def test_part_that_links_to_its_parent_does_not_recurse(put: Put, tmp_path: Path) -> None:
    put("m.safetensors", PLAIN)
    (tmp_path / "part0-of-1").symlink_to(tmp_path, target_is_directory=True)
    checkpoint = open_checkpoint(tmp_path)
    assert len(checkpoint.parts) == 1
    assert checkpoint.parts[0].checkpoint.parts == []


def test_sharded_state_and_offline_partition_are_recognised(put: Put, tmp_path: Path) -> None:
    put("sh/model-rank-0-part-0.safetensors", PLAIN)
    put("sh/quant_model_description.json", json.dumps(A1))
    assert profile_of(open_checkpoint(tmp_path / "sh")) == "SH310"
    put("off/model_sharded_metadata.json", '{"world_size": 2}')
    put("off/model-attn-tp-000/m.safetensors", PLAIN)
    checkpoint = open_checkpoint(tmp_path / "off")
    assert profile_of(checkpoint) == "OFF"
    assert checkpoint.sharded_metadata is not None
    assert checkpoint.sharded_metadata.value == {"world_size": 2}
    assert checkpoint.nested == ["model-attn-tp-000"]


def test_unmerged_ranks_are_named(put: Put, tmp_path: Path) -> None:
    put("rank_0/quant_model_weights.safetensors", PLAIN)
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.rank_directories, checkpoint.nested) == (["rank_0"], [])


def test_directory_of_checkpoints_names_them(put: Put, tmp_path: Path) -> None:
    put("ascendV1/quant_model_description.json", json.dumps(A1))
    put("other/readme.txt", "")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.nested == ["ascendV1"]
    assert "ascendV1" in str(checkpoint.foreign)


def test_forced_profile_keeps_what_the_files_say(put: Put) -> None:
    path = put("quant_model_description.json", json.dumps(A1)).parent
    profile = open_checkpoint(path, profile="L0").profile
    assert (profile.name, profile.forced) == ("L0", True)
    assert "A1" in profile.conflicts[0]
    assert open_checkpoint(path, profile="A1").profile.conflicts == ()


# --- families -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "kind"),
    [("awq", "awq"), ("gptq", "gptq"), ("fp8", "fp8"), ("compressed-tensors", "compressed-tensors"),
     ("\x1b[2J", "unknown"), ("never heard", "unknown")],
)  # fmt: skip
def test_quant_method_names_the_family(put: Put, method: str, kind: str) -> None:
    put("model.safetensors", PLAIN)
    config = json.dumps({"quantization_config": {"quant_method": method}})
    checkpoint = open_checkpoint(put("config.json", config).parent)
    assert checkpoint.kind == kind
    assert checkpoint.foreign is not None
    assert checkpoint.foreign.isprintable()
    assert checkpoint.profile.name == ("CTS" if kind == "compressed-tensors" else None)


def test_description_beats_a_stale_quant_method(put: Put) -> None:
    put("config.json", json.dumps({"quantization_config": {"quant_method": "fp8"}}))
    checkpoint = described(
        put, "quant_model_description.json", A1, "quant_model_weights.safetensors"
    )
    assert checkpoint.kind == "msmodelslim"


@pytest.mark.parametrize(
    ("file", "raw", "kind"),
    [
        ("model.safetensors", PLAIN, "float"),
        ("anything.safetensors", PLAIN, "float"),
        ("model.safetensors", weights(a=np.ones(2, np.int8)), "unknown"),
        ("model.gguf", b"GGUF", "gguf"),
        ("model.safetensors", b"", "unknown"),
    ],
)
def test_tensors_name_the_family_without_config(put: Put, file: str, raw: bytes, kind: str) -> None:
    assert open_checkpoint(put(file, raw).parent).kind == kind


# --- dtypes of the model ------------------------------------------------------------------------


def test_model_dtype_comes_from_config_then_from_norms(put: Put, tmp_path: Path) -> None:
    put("m.safetensors", weights(a__norm__weight=np.ones(2, np.float16)))
    assert open_checkpoint(tmp_path).model_dtype == "F16"
    put("config.json", '{"torch_dtype": "bfloat16"}')
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.model_dtype == "BF16"
    assert checkpoint.model_dtype_conflict == "config.json states BF16, the norm weights are F16"


def test_model_dtype_is_none_without_evidence(put: Put) -> None:
    checkpoint = open_checkpoint(put("m.safetensors", PLAIN).parent)
    assert (checkpoint.model_dtype, checkpoint.model_dtype_conflict) == (None, None)


# --- the listing --------------------------------------------------------------------------------


def test_hidden_and_foreign_files_are_listed_but_not_parsed(put: Put, tmp_path: Path) -> None:
    put(".m.safetensors", PLAIN)
    put("a.bin", b"\x80\x02")
    checkpoint = open_checkpoint(tmp_path)
    assert [entry.name for entry in checkpoint.files] == [".m.safetensors", "a.bin"]
    assert checkpoint.shards == []


def test_links_are_followed_and_noted(put: Put, tmp_path: Path) -> None:
    put("blobs/x", PLAIN)
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "m.safetensors").symlink_to("../blobs/x")
    (tmp_path / "snapshot" / "lost.safetensors").symlink_to("../blobs/y")
    checkpoint = open_checkpoint(tmp_path / "snapshot")
    entries = {entry.name: entry for entry in checkpoint.files}
    assert entries["m.safetensors"].is_symlink
    assert entries["m.safetensors"].size == len(PLAIN)
    assert [(d.file, d.code) for d in checkpoint.defects] == [("lost.safetensors", "unreadable")]
    assert "a.weight" in checkpoint.table


def test_optional_files_are_read_when_asked(put: Put, tmp_path: Path) -> None:
    put("optional/quarot.safetensors", weights(global_rotation=np.eye(2, dtype=np.float32)))
    checkpoint = open_checkpoint(tmp_path)
    assert "optional" not in vars(checkpoint)
    assert [header.name for header in checkpoint.optional] == ["optional/quarot.safetensors"]
    assert checkpoint.nested == []


def test_every_bad_file_is_reported_not_only_the_first(put: Put, tmp_path: Path) -> None:
    put("1.safetensors", b"")
    put("2.safetensors", b"<html>")
    put("3.safetensors", PLAIN)
    put("config.json", "[]")
    put("m.safetensors.index.json", '{"weight_map": {"a.weight": "../3.safetensors"}}')
    found = [(defect.file, defect.code) for defect in open_checkpoint(tmp_path).defects]
    assert found == [
        ("1.safetensors", "empty-file"),
        ("2.safetensors", "html-page"),
        ("config.json", "json-type"),
        ("m.safetensors.index.json", "index-file-name"),
    ]


def test_hostile_file_names_do_not_reach_a_message(tmp_path: Path) -> None:
    for name in (b"a\xff.safetensors", b"b\n.safetensors", b"quant_model_weights\x1b[2J"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"")
    nested = tmp_path / "\x1b[31m"
    nested.mkdir()
    (nested / "m.safetensors").write_bytes(PLAIN)
    checkpoint = open_checkpoint(tmp_path)
    assert len(checkpoint.defects) == 2
    for defect in checkpoint.defects:
        assert defect.message.isprintable()
    assert str(checkpoint.foreign).isprintable()


def test_reader_imports_no_heavy_module() -> None:
    import subprocess

    code = (
        "import sys, slimspec.checkpoint; "
        "sys.exit(any(m in sys.modules for m in ('numba', 'ml_dtypes', 'safetensors', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

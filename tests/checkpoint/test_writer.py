import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import save_file

from slimspec.checkpoint import CheckpointError, CheckpointWriter, open_checkpoint
from slimspec.checkpoint.description import metadata_keys

Put = Callable[[str, bytes | str], Path]

TENSORS: dict[str, Any] = {
    "b.weight": np.arange(6, dtype=np.int8).reshape(2, 3),
    "b.weight_scale": np.array([[0.5], [2.0]], dtype=np.float32),
    "norm.weight": np.arange(3, dtype=np.float32).astype(ml_dtypes.bfloat16),
    "a.deq_scale": np.arange(2, dtype=np.int64),
}


def write(out: Path, tensors: dict[str, Any] = TENSORS, **options: Any) -> Path:
    with CheckpointWriter(out, **({"model_quant_type": "W8A8"} | options)) as writer:
        for name, array in tensors.items():
            writer.write(name, array, "W8A8")
    return out


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


# --- bytes --------------------------------------------------------------------------------------


def test_file_is_byte_for_byte_that_of_the_library(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    save_file(TENSORS, tmp_path / "library.safetensors")
    written = (out / "quant_model_weights.safetensors").read_bytes()
    assert written == (tmp_path / "library.safetensors").read_bytes()


DTYPES = [np.int8, np.uint8, np.int32, np.int64, np.float16, np.float32, np.bool_,
          ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e8m0fnu]  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    keys = st.text(st.characters(min_codepoint=32, max_codepoint=0x2000), min_size=1, max_size=8)
    free = keys.filter(lambda key: key.isprintable() and key not in metadata_keys())
    found = draw(st.lists(free, max_size=5, unique=True))
    made: dict[str, Any] = {}
    for name in found:
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        top = 1 if dtype == np.bool_ else 255
        raw = bytes(draw(st.lists(st.integers(0, top), min_size=count, max_size=count)))
        made[name] = np.frombuffer(raw, dtype=dtype).reshape(shape)
    return made


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(made=tensors(), part=st.none() | st.integers(1, 64))
def test_what_is_written_is_read_back(
    tmp_path: Path, made: dict[str, Any], part: int | None
) -> None:
    out = write(tmp_path / "out", made, part_file_size=part, overwrite=True)
    checkpoint = open_checkpoint(out)
    assert checkpoint.defects == []
    assert checkpoint.profile.name == "A1"
    assert sorted(checkpoint.table.names) == sorted(made)
    for name, array in made.items():
        found = checkpoint.tensor(name)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()
    for shard in checkpoint.shards:  # and the library agrees
        with safe_open(shard.path, framework="np") as library:
            assert sorted(library.keys()) == sorted(entry.name for entry in shard.entries)
            assert library.metadata() is None


def test_strided_and_big_endian_arrays_are_stored_plain(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    out = write(tmp_path / "out", {"t": array.T, "b": array.astype(">i4"), "s": array[:, ::2]})
    checkpoint = open_checkpoint(out)
    assert checkpoint.tensor("t").tolist() == array.T.tolist()
    assert checkpoint.tensor("b").tolist() == array.tolist()
    assert checkpoint.tensor("s").tolist() == array[:, ::2].tolist()


def test_chunks_make_one_tensor(tmp_path: Path) -> None:
    def rows() -> Iterator[bytes]:
        for i in range(3):
            yield bytes([i, i])

    with CheckpointWriter(tmp_path / "out", model_quant_type="W8A8") as writer:
        writer.write_chunks("a", "BF16", (3, 1), rows(), "FLOAT")
    assert open_checkpoint(tmp_path / "out").raw("a").tolist() == [0, 0, 1, 1, 2, 2]


# --- names, order, permissions ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "part", "expected"),
    [
        ("A1", None, ["quant_model_description.json", "quant_model_weights.safetensors"]),
        ("A1", 1 << 30, ["quant_model_description.json",
                         "quant_model_weights-00001-of-00001.safetensors",
                         "quant_model_weights.safetensors.index.json"]),
        ("A0", None, ["quant_model_description.json", "quant_model_weight_w8a8.safetensors"]),
        ("A0", 1 << 30, ["quant_model_description.json",
                         "quant_model_weight_w8a8-00001-of-00001.safetensors",
                         "quant_model_weight_w8a8.safetensors.index.json"]),
        ("L0", None, ["quant_model_description_w8a8.json", "quant_model_weight_w8a8.safetensors"]),
        ("MF", None, ["quant_model_description_w8a8.json", "quant_model_weight_w8a8.safetensors"]),
        ("MF", 1 << 30, ["quant_model_description_w8a8.json",
                         "quant_model_weight-00001-of-00001.safetensors",
                         "quant_model_weight.safetensors.index.json"]),
        ("FLOAT", None, ["model.safetensors"]),
        ("FLOAT", 1 << 30, ["model-00001-of-00001.safetensors", "model.safetensors.index.json"]),
    ],
)  # fmt: skip
def test_files_are_named_as_the_profile_names_them(
    tmp_path: Path, profile: str, part: int | None, expected: list[str]
) -> None:
    assert names(write(tmp_path / "out", profile=profile, part_file_size=part)) == expected


@pytest.mark.parametrize(
    ("profile", "group_size", "first", "last"),
    [
        ("A1", 0, [], ["kv_cache_type", "version", "model_quant_type", "metadata", "group_size",
                       "optional"]),
        ("A0", 0, ["version", "model_quant_type", "kv_cache_type"], []),
        ("A0", 64, ["version", "model_quant_type", "group_size", "kv_cache_type"], []),
        ("L0", 64, ["model_quant_type", "kv_cache_type"], []),
        ("MF", 0, [], ["kv_cache_type", "model_quant_type"]),
    ],
)  # fmt: skip
def test_description_members_stand_in_the_order_of_the_producer(
    tmp_path: Path, profile: str, group_size: int, first: list[str], last: list[str]
) -> None:
    out = write(
        tmp_path / "out", profile=profile, group_size=group_size, metadata={"kv_cache_type": "C8"}
    )
    description = json.loads(next(out.glob("quant_model_description*")).read_bytes())
    assert list(description) == [*first, *TENSORS, *last]
    if profile in ("A0", "A1"):
        assert description["version"] == "1.0.0"


def test_metadata_of_the_caller_replaces_the_defaults(tmp_path: Path) -> None:
    optional = {"quarot": {"rotation_map": {"global_rotation": "optional/quarot.safetensors"}}}
    out = write(tmp_path / "out", metadata={"optional": optional})
    description = json.loads((out / "quant_model_description.json").read_bytes())
    assert description["optional"] == optional
    assert list(description)[-1] == "optional"


def test_entry_without_tensor_and_tensor_without_entry(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path / "out", model_quant_type="FLOAT") as writer:
        writer.write("heads_rotation", TENSORS["norm.weight"], None)
        writer.describe("x.quant_type", "FP8_DYNAMIC")
    description = open_checkpoint(tmp_path / "out").description
    assert description is not None
    assert description.labels == {"x.quant_type": "FP8_DYNAMIC"}


@pytest.mark.parametrize(
    ("profile", "weights", "description"), [("A1", 0o600, 0o600), ("A0", 0o400, 0o600)]
)
def test_permissions_are_those_of_the_producer(
    tmp_path: Path, profile: str, weights: int, description: int
) -> None:
    out = write(tmp_path / "out", profile=profile, part_file_size=1000)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(out) == 0o750
    assert mode(next(out.glob("*.safetensors"))) == weights
    assert mode(out / "quant_model_description.json") == description
    assert mode(next(out.glob("*.index.json"))) == 0o644


# --- shards -------------------------------------------------------------------------------------


def test_shard_closes_when_the_next_tensor_would_reach_the_limit(tmp_path: Path) -> None:
    arrays = {
        name: np.zeros(size, np.int8) for name, size in [("a", 4), ("b", 5), ("c", 1), ("d", 30)]
    }
    out = write(tmp_path / "out", arrays, part_file_size=10)
    index = json.loads((out / "quant_model_weights.safetensors.index.json").read_bytes())
    shard = "quant_model_weights-{:05d}-of-00003.safetensors".format
    # 4 + 5 < 10 share a shard; 9 + 1 reaches 10; one of 30 stands alone
    assert index["weight_map"] == {"a": shard(1), "b": shard(1), "c": shard(2), "d": shard(3)}
    assert index["metadata"] == {"total_size": 40}
    assert list(index["weight_map"]) == list(arrays)
    assert open_checkpoint(out).indexes[0].defects == ()


def test_checkpoint_without_tensors_is_still_one(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(tmp_path / "out", {}, part_file_size=10))
    assert (len(checkpoint.shards), len(checkpoint.table), checkpoint.defects) == (1, 0, [])


def test_memory_stays_below_the_size_of_a_shard(tmp_path: Path) -> None:
    import tracemalloc

    block = bytes(1 << 20)
    tracemalloc.start()
    with CheckpointWriter(tmp_path / "out", profile="FLOAT") as writer:
        for i in range(8):
            writer.write_chunks(f"t{i}", "U8", (8 << 20,), (block for _ in range(8)), None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 64 << 20
    assert peak < 20 << 20


# --- what must not happen -----------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interrupted_writer_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with CheckpointWriter(tmp_path / "out", model_quant_type="W8A8") as writer:
            writer.write("a", TENSORS["b.weight"], "W8A8")
            raise error

    with pytest.raises(error):
        interrupted()
    assert names(tmp_path) == []


def test_nothing_appears_before_the_end(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path / "out", model_quant_type="W8A8") as writer:
        writer.write("a", TENSORS["b.weight"], "W8A8")
        assert not (tmp_path / "out").exists()
        assert all(name.startswith("out.partial-") for name in names(tmp_path))
    assert names(tmp_path) == ["out"]


def test_existing_directory_is_refused_and_kept(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    before = names(out)
    with pytest.raises(CheckpointError, match="not empty"):
        write(out)
    assert names(out) == before


def test_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert len(names(write(tmp_path / "out"))) == 2


def test_overwrite_replaces_a_checkpoint_whole(tmp_path: Path) -> None:
    out = write(tmp_path / "out", part_file_size=10)
    write(out, profile="A0", overwrite=True)
    assert names(out) == ["quant_model_description.json", "quant_model_weight_w8a8.safetensors"]
    assert names(tmp_path) == ["out"]


def test_failed_overwrite_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    before = names(out)
    with (
        pytest.raises(RuntimeError),
        CheckpointWriter(out, model_quant_type="W8A8", overwrite=True),
    ):
        raise RuntimeError
    assert names(out) == before
    assert names(tmp_path) == ["out"]


def test_overwrite_spares_what_is_no_checkpoint(put: Put, tmp_path: Path) -> None:
    put("home/letter.txt", "dear")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        write(tmp_path / "home", overwrite=True)


def test_file_and_link_in_the_way_are_refused(put: Put, tmp_path: Path) -> None:
    put("file", "")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(CheckpointError, match="is not a directory"):
            write(tmp_path / name, overwrite=True)


def test_missing_parent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such directory"):
        write(tmp_path / "no" / "out")


def test_directory_that_appears_meanwhile_is_not_replaced(put: Put, tmp_path: Path) -> None:
    def race() -> None:
        with CheckpointWriter(tmp_path / "out", model_quant_type="W8A8"):
            put("out/other", "x")

    with pytest.raises(CheckpointError, match="not empty"):
        race()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["other"]


@pytest.mark.parametrize("name", ["", "a\nb", "__metadata__", "version", "x\ud800"])
def test_unusable_tensor_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="tensor name"):
        write(tmp_path / "out", {name: TENSORS["b.weight"]})
    assert names(tmp_path) == []


def test_tensor_written_twice_is_refused(tmp_path: Path) -> None:
    def twice() -> None:
        with CheckpointWriter(tmp_path / "out", model_quant_type="W8A8") as writer:
            writer.write("a", TENSORS["b.weight"], "W8A8")
            writer.write("a", TENSORS["b.weight"], "W8A8")

    with pytest.raises(CheckpointError, match="written twice"):
        twice()


@pytest.mark.parametrize("array", [np.array(["x"]), np.zeros(2, np.complex128), np.array([None])])
def test_dtype_without_a_tag_is_refused(tmp_path: Path, array: Any) -> None:
    with pytest.raises(CheckpointError, match="has no tag"):
        write(tmp_path / "out", {"a": array})


@pytest.mark.parametrize("chunks", [(), (b"x",), (b"xxx", b"xx")])
def test_chunks_of_the_wrong_length_are_refused(tmp_path: Path, chunks: tuple[bytes, ...]) -> None:
    def wrong() -> None:
        with CheckpointWriter(tmp_path / "out", model_quant_type="W8A8") as writer:
            writer.write_chunks("a", "I8", (4,), chunks, "W8A8")

    with pytest.raises(CheckpointError, match=r"expected 4 for I8 \[4\]"):
        wrong()
    assert names(tmp_path) == []


def test_missing_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="needs model_quant_type"):
        write(tmp_path / "out", model_quant_type=None)
    assert names(tmp_path) == []


def test_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slimspec.checkpoint.shard import ShardWriter

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ShardWriter, "append", full)
    with pytest.raises(CheckpointError, match=r"No space left on device$"):
        write(tmp_path / "out")
    assert names(tmp_path) == []


@pytest.mark.parametrize("options", [{"profile": "A2"}, {"part_file_size": 0}])
def test_senseless_options_are_value_errors(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        CheckpointWriter(tmp_path / "out", **options)

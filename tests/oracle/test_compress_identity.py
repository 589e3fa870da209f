"""Parts made of every recorded sparse checkpoint give it back, for one, two and four ranks.

The recordings without a config.json get that of their float model, and are split without it too.
Where the attention heads do not divide, the split is refused and then asked for with zero heads.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from oracle_replay import oracle_root

from slimcheck.run import run
from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from slimspec.layout.beside import is_norm_copy
from slimspec.numeric import as_float32, to_dtype
from slimspec.pipeline.compress import Options, Summary, compress_directory
from slimspec.pipeline.decompress import decompress_directory
from slimspec.pipeline.shard_map import consumers
from slimspec.pipeline.shard_plan import SPARSE


def sparse_directories() -> list[Path]:
    """Every recorded directory of a sparse type."""
    found = []
    for folder in sorted((oracle_root() / "checkpoints").glob("*/quant")):
        for path in (folder, folder / "ascendV1", folder / "safe_tensor"):
            description = open_checkpoint(path).description if path.is_dir() else None
            if description is not None and description.get("model_quant_type") in SPARSE:
                found.append(path)
    return found


def float_config(path: Path) -> Path | None:
    """config.json of a recording, or of the float model that its README names."""
    if (path / "config.json").is_file():
        return path / "config.json"
    case = next(folder for folder in path.parents if (folder / "README.txt").is_file())
    named = re.search(r"^float model: (.*)$", (case / "README.txt").read_text(), re.MULTILINE)
    config = case / named[1] / "config.json" if named else None
    return config if config is not None and config.is_file() else None


def name_of(path: Path) -> str:
    return "-".join(path.relative_to(oracle_root() / "checkpoints").parts).replace("-quant", "")


@pytest.fixture(params=sparse_directories(), ids=name_of)
def recorded(request: pytest.FixtureRequest, oracle: Path) -> Path:
    return request.param


@pytest.fixture(params=["with config", "without config"])
def source(request: pytest.FixtureRequest, recorded: Path, tmp_path: Path) -> Path:
    """The recording as a directory that has a config.json or not."""
    own = recorded / "config.json"
    if request.param == "without config":
        if own.is_file():
            pytest.skip("the recording has a config.json")
        return recorded
    config = float_config(recorded)
    if config is None:
        pytest.skip("no config.json of the float model")
    if config == own:
        return recorded
    copy = tmp_path / "source"
    shutil.copytree(recorded, copy)
    shutil.copyfile(config, copy / "config.json")
    return copy


def compressed(source: Path, out: Path, options: Options) -> Summary:
    """Compress, with zero heads where the attention heads do not divide."""
    try:
        return compress_directory(source, out, options)
    except CheckpointError as error:
        if "--pad-heads" in str(error):
            assert not out.exists()
            padded = Options(**{**vars(options), "pad_heads": True})
            return compress_directory(source, out, padded)
        if "model_type" in str(error) or "do not divide by" in str(error):
            pytest.skip(str(error))
        raise


def stored_dtype(checkpoint: Checkpoint) -> str:
    return checkpoint.norm_dtypes.most_common(1)[0][0]


@pytest.mark.parametrize("names", consumers())
@pytest.mark.parametrize("tp", [1, 2, 4])
def test_parts_give_the_checkpoint_back(source: Path, tmp_path: Path, tp: int, names: str) -> None:
    """Byte for byte, apart from the values that float16 cannot hold, which are counted."""
    original = open_checkpoint(source)
    dtype = stored_dtype(original)
    options = Options(tp=tp, names=names, keep_inputs=True, to_float16=dtype != "F16")
    summary = compressed(source, tmp_path / "parts", options)
    decompress_directory(
        tmp_path / "parts", tmp_path / "back", dtype=None if dtype == "F16" else dtype
    )
    back = open_checkpoint(tmp_path / "back")
    assert sorted(back.table.names) == sorted(original.table.names)
    assert back.profile.name == original.profile.name
    lost = 0
    for tensor in original.table:
        assert back.table.row(back.table.index(tensor.name)).dtype == tensor.dtype, tensor.name
        before, after = original.tensor(tensor.name), back.tensor(tensor.name)
        assert before.shape == after.shape
        if before.tobytes() == after.tobytes():
            continue
        assert dtype != "F16", tensor.name
        assert tensor.dtype == dtype
        rounded = to_dtype(to_dtype(before, np.float16), before.dtype)
        assert after.tobytes() == rounded.tobytes(), tensor.name
        lost += int((as_float32(before) != as_float32(after)).sum())
    assert lost <= summary.floats.values
    assert summary.input_scales.values == 0
    for files in (original, back):
        assert files.description is not None
    assert back.description.labels == original.description.labels  # type: ignore[union-attr]
    assert back.description.metadata == original.description.metadata  # type: ignore[union-attr]


@pytest.mark.parametrize("names", consumers())
@pytest.mark.parametrize("tp", [1, 2, 4])
def test_parts_conform_and_lose_only_the_width_of_the_input_parameters(
    source: Path, tmp_path: Path, tp: int, names: str
) -> None:
    original = open_checkpoint(source)
    options = Options(tp=tp, names=names, to_float16=stored_dtype(original) != "F16")
    summary = compressed(source, tmp_path / "parts", options)
    if original.config is not None:
        report = run(tmp_path / "parts")
        assert report.conformant, [r.requirement.id for r in report.failed if r.counts]
    decompress_directory(tmp_path / "parts", tmp_path / "back", input_dtype="F32")
    back = open_checkpoint(tmp_path / "back")
    changed = 0
    for name in original.table.names:
        if name.endswith(".input_scale"):
            wide = as_float32(original.tensor(name))
            narrow = as_float32(to_dtype(wide, np.float16))
            assert back.tensor(name).tobytes() == narrow.tobytes()
            changed += int((wide != narrow).sum())
        elif name.endswith(".input_offset"):
            assert (back.tensor(name) == original.tensor(name).astype(np.float32)).all()
        elif is_norm_copy(name.rpartition(".")[0], str(original.profile.name)):
            continue
        elif name.endswith(".weight") and original.description.labels[name] in SPARSE:  # type: ignore[union-attr]
            before = as_float32(original.tensor(name))
            np.testing.assert_array_equal(as_float32(back.tensor(name)), before)
    assert summary.input_scales.values == changed


def test_stub_payload_is_refused_with_its_tile(oracle: Path, tmp_path: Path) -> None:
    """The recorded containers hold real names and dtypes around plain bytes and an empty index."""
    stubs = sorted((oracle / "checkpoints").glob("sc_container*/quant"))
    if not stubs:
        pytest.skip("no recorded container")
    for path in stubs:
        with pytest.raises(CheckpointError, match=r"\.weight': tile 0, bit 0: data-length: "):
            decompress_directory(path, tmp_path / "back")
        assert not (tmp_path / "back").exists()

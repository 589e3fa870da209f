"""Each operation of a patch does what its name says, and refuses what is not there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from slimspec.golden.patch import apply

WEIGHTS, INDEX, NOTES = "w.safetensors", "w.safetensors.index.json", "notes.json"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tensors = {"a.x": np.arange(6, dtype=np.int8).reshape(2, 3), "b.x": np.ones(4, np.float32)}
    save_file(tensors, tmp_path / WEIGHTS)
    (tmp_path / INDEX).write_text("{}")
    (tmp_path / NOTES).write_text(json.dumps({"a.x": 1, "a.y": 2, "b": {"c": 3}}))
    return tmp_path


def tensors(directory: Path, **operation: Any) -> dict[str, np.ndarray]:
    apply([{"file": WEIGHTS, **operation}], directory)
    return load_file(directory / WEIGHTS)


def notes(directory: Path, **operation: Any) -> Any:
    apply([{"file": NOTES, **operation}], directory)
    return json.loads((directory / NOTES).read_text())


def test_tensor_is_filled_listed_or_a_diagonal(directory: Path) -> None:
    found = tensors(directory, op="tensor", name="c", dtype="F16", shape=[2, 2], diagonal=3)
    assert found["c"].tolist() == [[3, 0], [0, 3]]
    found = tensors(directory, op="tensor", name="c", dtype="I8", shape=[2], values=[1, -1])
    assert found["c"].tolist() == [1, -1]
    found = tensors(directory, op="tensor", name="c", dtype="U8", shape=[0, 5], fill=1)
    assert found["c"].shape == (0, 5)


def test_star_stands_for_every_match(directory: Path) -> None:
    assert tensors(directory, op="tensor-remove", name="*.x") == {}


@pytest.mark.parametrize("name", ["*.z", "a.?*.z"])
def test_star_without_a_match_is_refused(directory: Path, name: str) -> None:
    with pytest.raises(ValueError, match="matches nothing"):
        tensors(directory, op="tensor-remove", name=name)


def test_names_are_replaced_whole_or_in_part(directory: Path) -> None:
    assert set(tensors(directory, op="tensor-rename", name="a.x", to="c.x")) == {"c.x", "b.x"}
    found = tensors(directory, op="tensor-rename", name="*", replace=[".x", ".y"])
    assert set(found) == {"c.y", "b.y"}


def test_copy_keeps_the_first(directory: Path) -> None:
    found = tensors(directory, op="tensor-copy", name="a.x", to="c")
    assert found["c"].tolist() == found["a.x"].tolist()


def test_values_are_set_one_by_one_or_in_steps(directory: Path) -> None:
    found = tensors(directory, op="tensor-values", name="a.x", at=4, value=-9)
    assert found["a.x"].tolist() == [[0, 1, 2], [3, -9, 5]]
    found = tensors(directory, op="tensor-values", name="a.x", at=1, step=2, value=7)
    assert found["a.x"].tolist() == [[0, 7, 2], [7, -9, 7]]
    found = tensors(directory, op="tensor-values", name="a.x", at=0, stop=2, value=0)
    assert found["a.x"].tolist() == [[0, 0, 2], [7, -9, 7]]
    assert np.isnan(tensors(directory, op="tensor-values", name="b.x", at=0, value="NaN")["b.x"][0])


def test_cast_multiply_and_crop(directory: Path) -> None:
    found = tensors(directory, op="tensor-multiply", name="a.x", by=0.5)
    assert found["a.x"].tolist() == [[0, 0, 1], [2, 2, 2]]  # halves go to the even number
    found = tensors(directory, op="tensor-crop", name="a.x", shape=[None, 2])
    assert found["a.x"].tolist() == [[0, 0], [2, 2]]
    assert tensors(directory, op="tensor-cast", name="a.x", dtype="F16")["a.x"].dtype == np.float16


def test_index_follows_unless_told_not_to(directory: Path) -> None:
    tensors(directory, op="tensor-remove", name="a.x", index=False)
    assert json.loads((directory / INDEX).read_text()) == {}
    tensors(directory, op="tensor-copy", name="b.x", to="c")
    index = json.loads((directory / INDEX).read_text())
    assert index == {
        "metadata": {"total_size": 32},
        "weight_map": {"b.x": WEIGHTS, "c": WEIGHTS},
    }


def test_members_of_json_are_set_merged_and_removed(directory: Path) -> None:
    assert notes(directory, op="json", path=["b", "c"], value=4)["b"] == {"c": 4}
    assert notes(directory, op="json", path=["a.*"], value=0) == {"a.x": 0, "a.y": 0, "b": {"c": 4}}
    assert notes(directory, op="json-merge", path=["b"], value={"d": 5})["b"] == {"c": 4, "d": 5}
    assert notes(directory, op="json-remove", path=["a.*"]) == {"b": {"c": 4, "d": 5}}
    assert notes(directory, op="json-merge", path=[], value={"e": 6})["e"] == 6


def test_text_is_replaced_as_often_as_stated(directory: Path) -> None:
    assert notes(directory, op="replace", old='"a.', new='"z.', times=2).keys() == {
        "z.x",
        "z.y",
        "b",
    }
    with pytest.raises(ValueError, match="occurs 2 times"):
        notes(directory, op="replace", old='"z.', new="")


def test_empty_folder_can_be_deleted(directory: Path) -> None:
    (directory / "empty").mkdir()
    apply([{"op": "delete", "file": "empty"}], directory)
    assert not (directory / "empty").exists()


def test_unknown_operation_is_refused(directory: Path) -> None:
    with pytest.raises(ValueError, match="unknown patch operation 'melt'"):
        apply([{"op": "melt"}], directory)

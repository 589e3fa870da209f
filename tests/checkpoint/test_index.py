import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimspec.checkpoint import SafetensorsIndex, open_checkpoint, read_index

Put = Callable[[str, str], Path]


def read(put: Put, value: Any) -> SafetensorsIndex:
    return read_index(put("model.safetensors.index.json", json.dumps(value)))


def test_nested_index_is_read(put: Put) -> None:
    index = read(put, {"metadata": {"total_size": 3}, "weight_map": {"a": "1", "b": "2", "c": "1"}})
    assert (index.form, index.total_size, index.files) == ("nested", 3, ["1", "2"])
    assert index.weight_map == {"a": "1", "b": "2", "c": "1"}
    assert (index.prefix, index.defects) == ("model", ())


def test_flat_index_is_read(put: Put) -> None:
    index = read(put, {"a": "1.safetensors"})
    assert (index.form, index.weight_map, index.total_size) == (
        "flat",
        {"a": "1.safetensors"},
        None,
    )
    assert index.defects == ()


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("json-type", []),
        ("json-type", None),
        ("index-shape", {"weight_map": []}),
        ("index-shape", {"metadata": {}}),
        ("index-shape", {"metadata": 1, "weight_map": {}}),
        ("index-total-size", {"metadata": {"total_size": "3"}, "weight_map": {}}),
        ("index-total-size", {"metadata": {"total_size": True}, "weight_map": {}}),
        ("index-file-name", {"weight_map": {"a": 3}}),
        ("index-file-name", {"weight_map": {"a": None}}),
    ],
)
def test_wrong_shape_is_a_defect(put: Put, code: str, value: Any) -> None:
    assert [defect.code for defect in read(put, value).defects] == [code]


HOSTILE = [
    "../x",
    "/etc/passwd",
    "a/b.safetensors",
    "..",
    ".",
    "",
    "a\\b",
    "C:\\x",
    "a\x00b",
    "n" * 300,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_name_that_leaves_the_directory_is_a_defect_once(put: Put, name: str) -> None:
    index = read(put, {"weight_map": {"a": name, "b": name, "c": "ok.safetensors"}})
    assert [(d.code, d.tensor) for d in index.defects] == [("index-file-name", "a")]
    assert index.defects[0].message.isprintable()


@pytest.mark.parametrize("name", ["../secret.safetensors", "sub/secret.safetensors"])
def test_name_that_leaves_the_directory_is_never_opened(
    put: Put, tmp_path: Path, valid_bytes: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(valid_bytes)
    put("model/m.safetensors.index.json", json.dumps({"weight_map": {"x.weight": name}}))
    opened: list[str] = []
    real = Path.open

    def spy(self: Path, *args: Any, **kwargs: Any) -> Any:
        opened.append(self.name)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", spy)
    checkpoint = open_checkpoint(tmp_path / "model")
    assert opened == ["m.safetensors.index.json"]
    assert "x.weight" not in checkpoint.table


def test_duplicate_tensor_is_listed(put: Put) -> None:
    text = '{"weight_map": {"a": "1", "a": "2"}}'
    index = read_index(put("m.safetensors.index.json", text))
    assert index.duplicates[0].values == ("1", "2")

"""The safetensors index JSON, nested or in the flat form that Omni adapters write.

The file names in it are hostile until compared with a listing; nothing here opens them.

Source: formats.md 1.3, IDX-002 to IDX-008.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import Defect, clip, defect, json_type
from .jsonfile import Duplicate, read_json

SUFFIX = ".safetensors.index.json"


@dataclass(frozen=True, slots=True)
class SafetensorsIndex:
    """An index file.

    Attributes:
        form: "nested" ({"metadata", "weight_map"}), "flat" ({tensor: file}) or "unknown".
        weight_map: tensor name -> file name as written, for string values.
        total_size: `metadata.total_size` when it is an integer.
    """

    path: Path
    name: str
    form: Literal["nested", "flat", "unknown"]
    weight_map: dict[str, str]
    metadata: dict[str, Any]
    total_size: int | None
    duplicates: tuple[Duplicate, ...]
    defects: tuple[Defect, ...]

    @property
    def files(self) -> list[str]:
        """The distinct file names, sorted."""
        return sorted(set(self.weight_map.values()))

    @property
    def prefix(self) -> str:
        """What stands before `.safetensors.index.json`."""
        return self.name.removesuffix(SUFFIX)


def read_index(path: str | Path, *, name: str | None = None) -> SafetensorsIndex:
    """Read the index at `path`; problems become defects."""
    path = Path(path)
    name = path.name if name is None else name
    file = read_json(path, name=name)
    defects = list(file.defects)
    form, stated, metadata = _shape(file.value, name, defects)
    weight_map = _weight_map(stated, name, defects)
    size = metadata.get("total_size")
    total = size if type(size) is int else None
    if "total_size" in metadata and total is None:
        defects.append(defect("index-total-size", name, clip(size, 60), "an integer"))
    return SafetensorsIndex(
        path, name, form, weight_map, metadata, total, file.duplicates, tuple(defects)
    )


def is_safe_name(value: str) -> bool:
    """Whether `value` can only name a file of the same directory."""
    return (
        value not in ("", ".", "..")
        and "/" not in value
        and "\\" not in value
        and value.isprintable()
        and len(value) <= 255
    )


def _shape(
    value: Any, name: str, defects: list[Defect]
) -> tuple[Literal["nested", "flat", "unknown"], dict[str, Any], dict[str, Any]]:
    if not isinstance(value, dict):
        if not defects:
            defects.append(defect("json-type", name, json_type(value), "an object"))
        return "unknown", {}, {}
    if "weight_map" in value or "metadata" in value:
        stated, metadata = value.get("weight_map"), value.get("metadata", {})
        if not isinstance(stated, dict):
            found = f"weight_map is {clip(stated, 60)}"
            defects.append(defect("index-shape", name, found, "an object"))
        if not isinstance(metadata, dict):
            found = f"metadata is {clip(metadata, 60)}"
            defects.append(defect("index-shape", name, found, "an object"))
        return (
            "nested",
            stated if isinstance(stated, dict) else {},
            metadata if isinstance(metadata, dict) else {},
        )
    return "flat", value, {}


def _weight_map(stated: dict[str, Any], name: str, defects: list[Defect]) -> dict[str, str]:
    weight_map: dict[str, str] = {}
    checked: dict[str, str] = {}  # one string object per file name, each judged once
    for tensor, file in stated.items():
        if not isinstance(file, str):
            found = f"its file is {clip(file, 60)}"
            defects.append(defect("index-file-name", name, found, "a file name", tensor=tensor))
            continue
        if file not in checked:
            checked[file] = file
            if not is_safe_name(file):
                found = f"its file is '{clip(file, 80)}'"
                expected = "the plain name of a file in the same directory"
                defects.append(defect("index-file-name", name, found, expected, tensor=tensor))
        weight_map[tensor] = checked[file]
    return weight_map

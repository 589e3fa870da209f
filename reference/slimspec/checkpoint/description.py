"""The description JSON: metadata keys apart from one label per tensor.

Source: formats.md section 2.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from slimspec.layout import vocabulary

from .errors import Defect, defect, json_type
from .jsonfile import Duplicate, read_json

PREFIX = "quant_model_description"
OMNI_PREFIX = "thinker."  # Omni adapters put it before every key, metadata included


@dataclass(frozen=True, slots=True)
class Description:
    """A description file, split by kind of member, each in file order.

    Attributes:
        metadata: metadata keys as written (an Omni key keeps its `thinker.` prefix).
        labels: every other member whose value is a string: tensor name -> label, and the
            per-layer `*.quant_type` keys that name no tensor.
        other: every other member whose value is no string (`*.outdim` integers, null, ...).
        last: name of the last member of the file.
    """

    path: Path
    name: str
    metadata: dict[str, Any]
    labels: dict[str, str]
    other: dict[str, Any]
    duplicates: tuple[Duplicate, ...]
    defects: tuple[Defect, ...]
    last: str = ""

    @property
    def readable(self) -> bool:
        """Whether the file is a JSON object at all."""
        return bool(self.metadata or self.labels or self.other) or not self.defects

    def get(self, key: str, default: Any = None) -> Any:
        """Return a metadata value by its plain name, also when stored as `thinker.{key}`."""
        if key in self.metadata:
            return self.metadata[key]
        return self.metadata.get(OMNI_PREFIX + key, default)


@cache
def metadata_keys() -> frozenset[str]:
    """Return the vocabulary of metadata keys."""
    return frozenset(vocabulary.metadata_keys())


def read_description(path: str | Path, *, name: str | None = None) -> Description:
    """Read the description at `path`; an unreadable one is empty and says why in `defects`."""
    path = Path(path)
    name = path.name if name is None else name
    file = read_json(path, name=name)
    defects = list(file.defects)
    members = file.value if isinstance(file.value, dict) else {}
    if not isinstance(file.value, dict) and not defects:
        defects.append(defect("json-type", name, json_type(file.value), "an object"))
    keys = metadata_keys() | {OMNI_PREFIX + key for key in metadata_keys()}
    metadata = {key: members[key] for key in members if key in keys}
    labels = {key: value for key, value in members.items() if type(value) is str}
    other = {key: value for key, value in members.items() if type(value) is not str}
    for key in metadata:
        (labels if key in labels else other).pop(key)
    last = next(reversed(members), "")
    return Description(path, name, metadata, labels, other, file.duplicates, tuple(defects), last)

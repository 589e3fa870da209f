"""The vectors of `golden/vectors`: reading, writing, and the rule that ids are never reused.

One operation has a JSON file of cases and a safetensors file of the same name. A tensor of a case
is stored as `ID/in/NAME`, `ID/mid/NAME` (intermediates) or `ID/out/NAME`. `recorded/` holds what
the real producer computed; the other files are made by
`python -m slimspec.golden.vectors_build`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.checkpoint.errors import Defect
from slimspec.checkpoint.header import read_header
from slimspec.checkpoint.jsonfile import read_json
from slimspec.data import folder
from slimspec.golden.shard import Shard

if TYPE_CHECKING:
    from slimspec.golden.contents import Definition

PARTS = {"inputs": "in", "intermediates": "mid", "outputs": "out"}


@dataclass(frozen=True)
class VectorCase:
    """One vector.

    Attributes:
        id, op, comment, origin, source, numerics: as in the file.
        flags: keys of notes.json.
        requirements: ids that lean on it.
        attributes: what is not a tensor.
        inputs, intermediates, outputs: arrays by name; outputs are what a kernel must produce.
        tolerance: output -> {"class", "bound"}; "bit-exact" has no bound.
    """

    id: str
    op: str
    comment: str
    origin: str
    source: str
    numerics: str
    flags: tuple[str, ...]
    requirements: tuple[str, ...]
    attributes: Mapping[str, Any]
    inputs: Mapping[str, NDArray]
    intermediates: Mapping[str, NDArray]
    outputs: Mapping[str, NDArray]
    tolerance: Mapping[str, Mapping[str, Any]]

    def __str__(self) -> str:
        return self.id

    @property
    def settings(self) -> dict[str, Any]:
        """The attributes with the numerics profile where it is not canonical."""
        more = {} if self.numerics == "canonical" else {"numerics": self.numerics}
        return dict(self.attributes) | more

    def has(self, where: Mapping[str, Any]) -> bool:
        """Tell whether the case has these attributes, "numerics" among them."""
        told = {"numerics": self.numerics} | dict(self.attributes)
        return all(name in told and told[name] == value for name, value in where.items())

    def check(self, *outputs: Any) -> None:
        """Raise AssertionError, naming what was computed instead, unless `outputs` pass.

        Args: outputs in the order of the case, as arrays, or as one mapping or tuple.
        """
        from slimspec.golden.explain import require

        require(self, *outputs)


def cases(
    op: str | None = None,
    *,
    origin: str | None = None,
    where: Mapping[str, Any] = MappingProxyType({}),
) -> list[VectorCase]:
    """Return the vectors of an operation (default: all), sorted by id.

    Args: origin, where: only those of this origin, and with these attributes ("numerics" is one).

    Raises:
        ValueError: there is no vector of that operation, or none like that, or `where` is no
            mapping.
    """
    if not isinstance(where, Mapping):
        raise ValueError(f"where={where!r}: expected attributes by name, as {{'bits': 8}}")
    of_op = [
        case for path in case_files() if op is None or path.stem == op for case in load_cases(path)
    ]
    if op is not None and not of_op:
        raise ValueError(f"no vector of operation {op!r}: expected one of {', '.join(names())}")
    found = [case for case in of_op if origin in (None, case.origin) and case.has(where)]
    if op is not None and not found:
        told = ({"origin": origin} if origin else {}) | dict(where)
        raise ValueError(f"none of the {len(of_op)} vectors of {op} has {told}")
    return sorted(found, key=lambda case: case.id)


def read_directory(directory: Path) -> list[VectorCase]:
    """Return the vectors of a directory that `slimspec golden generate` wrote.

    Raises:
        ValueError: no case file there, or one that breaks its schema, names no operation or lacks a
            tensor.
    """
    from slimspec.golden.operations import operation
    from slimspec.jsonschemas import validator

    paths = sorted(directory.glob("*.json"))
    if not paths:
        raise ValueError(f"{directory}: no case file (.json) there")
    found: list[VectorCase] = []
    for path in paths:
        read = read_json(path)
        _refuse(directory, read.defects)
        content = read.value
        for wrong in validator("vector").iter_errors(content):
            place = "/".join(map(str, wrong.absolute_path))
            raise ValueError(f"{path}: {place}: {wrong.message[:300]}")
        operation(content["op"])
        _refuse(directory, read_header(path.with_name(content["tensors"])).defects)
        try:
            found += load_cases(path)
        except KeyError as error:
            raise ValueError(f"{path}: {error} is no tensor of {content['tensors']}") from None
    return found


def _refuse(directory: Path, defects: Iterable[Defect]) -> None:
    for defect in defects:
        raise ValueError(f"{directory}: {defect.message}")


def names() -> list[str]:
    """Return the operations that have vectors."""
    return sorted({path.stem for path in case_files()})


def case_files(root: Path | None = None) -> list[Path]:
    """Return the JSON files of cases, generated ones first."""
    base = (root or folder("golden")) / "vectors"
    own = [path for path in sorted(base.glob("*.json")) if path.name != "notes.json"]
    return [*own, *sorted((base / "recorded").glob("*.json"))]


def flags() -> dict[str, dict[str, str]]:
    """Return flag -> {"wrong", "breaks"}: the mistake, and what it does in service."""
    path = folder("golden") / "vectors" / "notes.json"
    content: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))["flags"]
    return content


@cache
def load_cases(path: Path) -> tuple[VectorCase, ...]:
    content = json.loads(path.read_text(encoding="utf-8"))
    tensors = Shard.load(path.with_name(content["tensors"])).tensors
    return tuple(_case(content["op"], case, tensors) for case in content["cases"])


def _case(op: str, case: dict[str, Any], tensors: Mapping[str, Any]) -> VectorCase:
    parts: Any = {
        part: {name: stored_array(tensors[f"{case['id']}/{short}/{name}"]) for name in case[part]}
        for part, short in PARTS.items()
    }
    plain = ("id", "comment", "origin", "source", "numerics", "attributes")
    return VectorCase(
        op=op,
        flags=tuple(case["flags"]),
        requirements=tuple(case["requirements"]),
        tolerance={name: entry["tolerance"] for name, entry in case["outputs"].items()},
        **{key: case[key] for key in plain},
        **parts,
    )


def stored_array(stored: tuple[str, tuple[int, ...], bytes]) -> NDArray:
    tag, shape, data = stored
    return np.frombuffer(data, whole_dtype(tag)).reshape(shape)  # read-only


def fingerprint(definition: "Definition | VectorCase") -> str:
    """Return what an id stands for: a hash of operation, profile, attributes and inputs."""
    digest = hashlib.sha256()
    told = [definition.op, definition.numerics, dict(definition.attributes)]
    digest.update(json.dumps(told, sort_keys=True).encode())
    for name, array in sorted(definition.inputs.items()):
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def read_ids(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, fingerprint) of every id ever issued, oldest first."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, digest = line.split(" ")
            yield name, digest


def listing(root: Path) -> list[dict[str, Any]]:
    """Return what the manifest says about each vector."""
    rows = []
    for path in case_files(root):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            row = {"id": case["id"], "path": path.relative_to(root).as_posix()}
            row |= {"origin": case["origin"]}
            rows.append(row | {"requirements": case["requirements"]})
    return sorted(rows, key=lambda row: row["id"])

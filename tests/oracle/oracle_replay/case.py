"""One recorded run of the producer: its float model, its recipe, its capture, its outputs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors import deserialize

from slimspec.checkpoint.dtypes import numpy_dtype

REPOSITORY = Path(__file__).resolve().parents[3]
DESCRIPTION = "quant_model_description*.json"
CAST = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def oracle_root() -> Path:
    """Return the directory of recorded runs: $SLIMSPEC_ORACLE or ../shared/oracle."""
    return Path(os.environ.get("SLIMSPEC_ORACLE", REPOSITORY.parent / "shared" / "oracle"))


def find_cases(root: Path) -> list[Path]:
    """Return every directory under `root/checkpoints`, in order; [] if there is none."""
    folder = root / "checkpoints"
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


class Tensors(Mapping[str, NDArray]):
    """The tensors of some safetensors files."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._stored: dict[str, dict[str, Any]] = {}
        for path in files:
            self._stored.update(deserialize(path.read_bytes()))

    def __getitem__(self, name: str) -> NDArray:
        stored = self._stored[name]
        dtype = numpy_dtype(stored["dtype"])
        return np.frombuffer(stored["data"], dtype).reshape(stored["shape"])

    def ndim(self, name: str) -> int:
        """Return the number of dimensions of a tensor."""
        return len(self._stored[name]["shape"])

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


@dataclass(frozen=True)
class Output:
    """One directory that the producer wrote."""

    path: Path
    description: Mapping[str, Any]
    tensors: Tensors

    @property
    def labels(self) -> dict[str, str]:
        """Return tensor name -> label, for the tensors that are stored."""
        return {k: v for k, v in self.description.items() if k in self.tensors}


class Case:
    """A recorded run; whatever it lacks is an empty mapping."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.capture: Mapping[str, Any] = _json(path / "calib" / "capture.json")
        self.recipe: Mapping[str, Any] = _json(path / "calib" / "case.json")
        config = path / "calib" / "config.yaml"
        if config.is_file():
            self.recipe = yaml.safe_load(config.read_text(encoding="utf-8"))

    @property
    def variant(self) -> str | None:
        """Return "v1" for a one-click config, "v0" for Calibrator parameters, None for neither."""
        if "spec" in self.recipe:
            return "v1"
        return "v0" if "q" in self.recipe else None

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """Return the steps of a v1 recipe; groups are opened."""
        steps = (self.recipe.get("spec") or {}).get("process") or []
        return [inner for step in steps for inner in (step.get("configs") or [step])]

    @property
    def processes(self) -> list[str]:
        """Return what a v1 recipe does, each type once."""
        return list(dict.fromkeys(str(step.get("type")) for step in self.steps))

    @cached_property
    def outputs(self) -> list[Output]:
        """Return every directory below quant/ that has a description."""
        found = []
        for path in sorted((self.path / "quant").rglob(DESCRIPTION)):
            files = sorted(path.parent.glob("*.safetensors"))
            found.append(Output(path.parent, _json(path), Tensors(files)))
        return found

    @cached_property
    def model(self) -> Tensors:
        """Return the float model that the README names."""
        readme = self.path / "README.txt"
        named = readme.is_file() and re.search(
            r"^float model:\s*(\S+)", readme.read_text(encoding="utf-8"), re.MULTILINE
        )
        folder = self.path / named[1] if named else Path("/nonexistent")
        return Tensors(sorted(folder.glob("*.safetensors")))

    @cached_property
    def captured(self) -> Tensors:
        """Return the captured tensors, if they were kept."""
        return Tensors(p for p in [self.path / "calib" / "capture.safetensors"] if p.is_file())

    def linear(self, name: str) -> Mapping[str, Any]:
        """Return what was captured of a linear."""
        return self.capture.get("linears", {}).get(name, {})

    def resolve(self, reference: str | None) -> NDArray | None:
        """Return the tensor that a capture entry refers to; None if it was not kept.

        "SAME_AS float:NAME", "SAME_VALUES_AS float:NAME cast to torch.DTYPE", a name in the
        capture, or an alias of one ("float:NAME@DTYPE", "capture:NAME").
        """
        if not reference:
            return None
        if reference in self.captured:
            return self.captured[reference]
        reference = self.capture.get("aliases", {}).get(reference, reference)
        match = re.fullmatch(
            r"(?:SAME_AS |SAME_VALUES_AS )?(float|capture):(\S+?)"
            r"(?:@(\w+)| cast to torch\.(\w+))?",
            reference,
        )
        if not match:
            return None
        source = self.model if match[1] == "float" else self.captured
        tensor = source.get(match[2])
        if tensor is None:
            return None
        dtype = CAST.get(match[3] or match[4] or "")
        return tensor if dtype is None else tensor.astype(dtype)


def _json(path: Path) -> Mapping[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

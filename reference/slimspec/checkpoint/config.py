"""The members of config.json that belong to the format.

Source: formats.md 1.4; users.md 1.2 (stale quantization_config).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import Defect, clip, defect, json_type
from .jsonfile import Duplicate, read_json

CONFIG_LIMIT = 16 << 20

# Where multimodal models nest the configuration of their language model.
TEXT_PATHS: tuple[tuple[str, ...], ...] = (
    (),
    ("text_config",),
    ("thinker_config", "text_config"),
    ("thinker_config",),
    ("llm_config",),
    ("language_config",),
)

_DTYPE_TAGS = {
    "float16": "F16", "half": "F16", "fp16": "F16",
    "bfloat16": "BF16", "bf16": "BF16",
    "float32": "F32", "float": "F32", "fp32": "F32",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Config:
    """config.json; `value` is {} when it cannot be read as an object."""

    path: Path
    name: str
    value: dict[str, Any]
    duplicates: tuple[Duplicate, ...]
    defects: tuple[Defect, ...]

    @property
    def model_dtype(self) -> str | None:
        """The dtype of the float model: "F16", "BF16", "F32", or None."""
        return dtype_tag(self.stated_dtype)

    @property
    def stated_dtype(self) -> Any:
        """`torch_dtype` or `dtype` as written, of the first level that has one."""
        for path in TEXT_PATHS:
            node = self._at(path)
            for key in ("torch_dtype", "dtype"):
                if node.get(key) is not None:
                    return node[key]
        return None

    @property
    def model_type(self) -> str | None:
        """`model_type`, or None."""
        found = self.value.get("model_type")
        return found if isinstance(found, str) else None

    @property
    def model_types(self) -> tuple[str, ...]:
        """Every `model_type`, that of the whole first, then those of the models inside."""
        stated = (self._at(path).get("model_type") for path in TEXT_PATHS)
        return tuple(dict.fromkeys(name for name in stated if isinstance(name, str)))

    @property
    def members(self) -> dict[str, Any]:
        """The members of every level, the outermost where several have one."""
        found: dict[str, Any] = {}
        for path in reversed(TEXT_PATHS):
            found.update(self._at(path))
        return found

    @property
    def architectures(self) -> tuple[str, ...]:
        """`architectures`, the strings of it."""
        found = self.value.get("architectures")
        return tuple(a for a in found if isinstance(a, str)) if isinstance(found, list) else ()

    @property
    def quantize(self) -> Any:
        """`quantize` as written; None when absent."""
        return self.value.get("quantize")

    @property
    def quantization_config(self) -> Any:
        """`quantization_config` as written; None when absent."""
        return self.value.get("quantization_config")

    @property
    def quantization_configs(self) -> dict[str, dict[str, Any]]:
        """Every `quantization_config` object, by its dotted place in the file."""
        found = {}
        for path in TEXT_PATHS:
            node = self._at(path).get("quantization_config")
            if isinstance(node, dict):
                found[".".join((*path, "quantization_config"))] = node
        return found

    @property
    def quant_method(self) -> str | None:
        """`quant_method` of the first quantization_config that has one."""
        for node in self.quantization_configs.values():
            if isinstance(node.get("quant_method"), str):
                return str(node["quant_method"])
        return None

    def get(self, key: str, default: Any = None) -> Any:
        """Return a member, looked up in the language model's configuration too."""
        return next(self.each(key), default)

    def each(self, key: str) -> Iterator[Any]:
        """Yield a member of every level that has it, the outermost first."""
        for path in TEXT_PATHS:
            node = self._at(path)
            if key in node:
                yield node[key]

    def _at(self, path: tuple[str, ...]) -> dict[str, Any]:
        node: Any = self.value
        for key in path:
            node = node.get(key)
            if not isinstance(node, dict):
                return {}
        return node


def dtype_tag(stated: Any) -> str | None:
    """Normalise "torch.bfloat16" and its spellings to a header tag; None for anything else."""
    if not isinstance(stated, str):
        return None
    return _DTYPE_TAGS.get(stated.removeprefix("torch.").lower())


def read_config(path: str | Path, *, name: str | None = None) -> Config:
    """Read config.json at `path`; an unreadable one is empty and says why in `defects`."""
    path = Path(path)
    name = path.name if name is None else name
    file = read_json(path, limit=CONFIG_LIMIT, name=name)
    defects = list(file.defects)
    if not isinstance(file.value, dict) and not defects:
        defects.append(defect("json-type", name, json_type(file.value), "an object"))
    value = file.value if isinstance(file.value, dict) else {}
    config = Config(path, name, value, file.duplicates, ())
    stated = config.stated_dtype
    if stated is not None and config.model_dtype is None:
        found = f"torch_dtype {clip(stated, 60)}"
        defects.append(defect("config-dtype", name, found, "float16, bfloat16 or float32"))
    return Config(path, name, value, file.duplicates, tuple(defects))

"""The quantization config with the field's own parameter names, types, defaults and ranges.

The statement is `schemas/quantization_config.schema.json`; this record has its members. What the
parameters mean together (rules, the type they choose) is in `config_rules`.

Source: seeds 001 (table 1); Ascend/MindIE-LLM examples/convert/model_slim/quantifier.py:30-80.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from slimspec.checkpoint import CheckpointError, read_json
from slimspec.checkpoint.errors import clip
from slimspec.data import folder

SCHEMA = "quantization_config"
MIN_MAX = "MinMax"
W_METHODS = (MIN_MAX, "GPTQ", "HQQ")  # the Calibrator's w_method; not in the table


@dataclass(frozen=True)
class QuantizationConfig:
    """What to do, as the field's tools are told; see the schema for each parameter.

    `given` is no parameter: the names that were set, default values included.
    """

    save_directory: str = ""
    part_file_size: int | None = None
    calib_texts: tuple[str, ...] | None = None
    calib_file: str | None = None
    w_bit: int = 8
    a_bit: int = 8
    disable_names: tuple[str, ...] | None = None
    device_type: str = "cpu"
    fraction: float = 0.01
    act_method: int = 1
    co_sparse: bool = False
    anti_method: str = ""
    disable_level: str = "L0"
    do_smooth: bool = False
    use_sigma: bool = False
    use_reduce_quant: bool = False
    tp_size: int = 1
    sigma_factor: float = 3.0
    is_lowbit: bool = False
    mm_tensor: bool = True
    w_sym: bool = True
    use_kvcache_quant: bool = False
    use_fa_quant: bool = False
    fa_amp: int = 0
    open_outlier: bool = True
    group_size: int = 64
    is_dynamic: bool = False
    input_ids_name: str = "input_ids"
    attention_mask_name: str = "attention_mask"
    tokenizer_args: Mapping[str, Any] | None = None
    disable_last_linear: bool = True
    trust_remote_code: bool = False
    given: frozenset[str] = frozenset()


@cache
def parameters() -> Mapping[str, Mapping[str, Any]]:
    """Return name -> JSON Schema of every parameter, in the order of the table."""
    path = folder("schemas") / f"{SCHEMA}.schema.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["properties"]
    return found


def parse_config(value: Any, where: str = "config") -> QuantizationConfig:
    """Check names, types and ranges, and build the config; rules come in `config_rules.check`.

    Raises: CheckpointError naming `where`, the parameter, what was found and what is expected.
    """
    from slimspec.jsonschemas import validator  # slow to import, and only needed here

    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected parameters by name, found {clip(value, 60)}")
    for name in value:
        if name not in parameters():
            raise CheckpointError(f"{where}: {clip(name, 60)}: no such parameter{_near(name)}")
    for error in sorted(validator(SCHEMA).iter_errors(value), key=lambda e: list(map(str, e.path))):
        name = str(error.path[0])
        found, expected = clip(value[name], 60), _expected(parameters()[name])
        raise CheckpointError(f"{where}: {name}: found {found}, expected {expected}")
    lists = ("calib_texts", "disable_names")
    members: dict[str, Any] = {
        k: tuple(v) if k in lists and v is not None else v for k, v in value.items()
    }
    return QuantizationConfig(**members, given=frozenset(value))


def read_config(file: str | Path) -> QuantizationConfig:
    """Read a config from YAML or JSON. Raises: CheckpointError: unreadable, as `parse_config`."""
    return parse_config(read_members(file), str(file))


def read_members(file: str | Path) -> Any:
    """Return the content of a YAML or JSON file, unchecked.

    Raises: CheckpointError: no such file, or neither of them.
    """
    path = Path(file)
    if path.suffix.lower() == ".json":
        read = read_json(path)
        for defect in read.defects:
            raise CheckpointError(defect.message)
        return read.value
    try:
        from .yaml_file import read_yaml
    except ImportError:
        raise CheckpointError(f"{path}: YAML needs pyyaml; use a .json file instead") from None
    return read_yaml(path)


def _expected(schema: Mapping[str, Any]) -> str:
    """The type and range of a parameter in words."""
    if "enum" in schema:
        return " or ".join(repr(v) for v in schema["enum"])
    kinds = schema["type"]
    kinds = [kinds] if isinstance(kinds, str) else kinds
    text = " or ".join(kind if kind != "null" else "null for none" for kind in kinds)
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        text += f" from {low}" + (f" to {high}" if high is not None else " up")
    return text + (f" like {schema['pattern']}" if "pattern" in schema else "")


def _near(name: object) -> str:
    from difflib import get_close_matches

    close = get_close_matches(str(name), parameters(), n=1)
    return f"; did you mean {close[0]}?" if close else ""

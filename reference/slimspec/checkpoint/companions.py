"""Copy what a checkpoint needs beside its weights: config.json, tokenizer, code.

Source: formats.md 1.2 (the producer copies *.json, *.py, *.txt, *.jinja but not *index.json and
drops `quantization_config`); users.md 1.2 rows 113 and 114 (it forgets `*.model`; we do not).
"""

import json
import shutil
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from slimspec.layout import profiles

from .description import PREFIX
from .errors import CheckpointError, clip
from .jsonfile import read_json
from .profile import SHARDED_METADATA

_TOKENIZER = ("*.model",)


def copy_companions(
    source: Path, target: Path, *, changes: Mapping[str, Any] | None = None
) -> None:
    """Copy the companion files of a float model; config.json loses `quantization_config`.

    Args:
        source: the float model's directory.
        target: an existing directory.
        changes: top-level members to set in config.json; a value of None removes the member.

    Raises:
        CheckpointError: config.json is no strict JSON object, or a file cannot be copied.
    """
    for path in sorted(source.iterdir()):
        if not _is_companion(path):
            continue
        try:
            if path.name == "config.json":
                _copy_config(path, target / path.name, changes or {})
            else:
                shutil.copyfile(path, target / path.name)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be copied: {error.strerror}") from None


def _is_companion(path: Path) -> bool:
    name = path.name
    foreign = name.endswith("index.json") or name.startswith((".", PREFIX))
    if foreign or name == SHARDED_METADATA:
        return False
    patterns = profiles.profile("A1").companions + _TOKENIZER
    return any(fnmatchcase(name, pattern) for pattern in patterns) and path.is_file()


def _copy_config(source: Path, target: Path, changes: Mapping[str, Any]) -> None:
    file = read_json(source)
    if not isinstance(file.value, dict):
        reason = file.defects[0].message if file.defects else "found no object"
        raise CheckpointError(f"{source}: {clip(reason)}")
    stale = "quantization_config" in file.value
    text = file.value.get("text_config")
    stale = stale or (isinstance(text, dict) and "quantization_config" in text)
    if not stale and not changes:
        shutil.copyfile(source, target)
        return
    config = dict(file.value)
    config.pop("quantization_config", None)
    if isinstance(text, dict):
        config["text_config"] = {k: v for k, v in text.items() if k != "quantization_config"}
    for key, value in changes.items():
        config.pop(key, None)
        if value is not None:
            config[key] = value
    target.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")

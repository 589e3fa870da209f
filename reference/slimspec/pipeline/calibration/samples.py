"""Calibration texts: from a JSONL file or the command line, to token ids.

Source: Ascend/MindIE-LLM examples/convert/model_slim/get_calibration_dataset.py (the member
`inputs_pretokenized` of every line); msmodelslim calibration sets also use `prompt` and `text`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip
from slimspec.pipeline.text_file import read_text_file

KEYS = ("inputs_pretokenized", "prompt", "text", "question")
LONGEST_LINE = 1 << 24
LARGEST_FILE = 1 << 28


def read_texts(file: str | Path) -> list[str]:
    """Return the texts of a JSONL file, or of a JSON file that holds a list of texts.

    A line is an object with one of KEYS, or a JSON string.
    Raises: CheckpointError naming the file, the line, what was found and what is expected.
    """
    path = Path(file)
    content = read_text_file(path, LARGEST_FILE)
    if path.suffix == ".json":
        return _json_list(path, content)
    lines = content.splitlines()
    texts = [_line(path, i, line) for i, line in enumerate(lines, 1) if line.strip()]
    if not texts:
        raise CheckpointError(f"{path}: no calibration text, expected one JSON object per line")
    return texts


def _json_list(path: Path, content: str) -> list[str]:
    value = _parse(content, f"{path}")
    if not isinstance(value, list) or not value:
        raise CheckpointError(f"{path}: expected a list of texts")
    return [_text(item, f"{path}: entry {i}") for i, item in enumerate(value)]


def _line(path: Path, number: int, line: str) -> str:
    if len(line) > LONGEST_LINE:
        raise CheckpointError(f"{path}:{number}: found {len(line)} characters in one line")
    where = f"{path}:{number}"
    return _text(_parse(line, where), where)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: no JSON ({clip(str(error))})") from None


def _text(value: object, where: str) -> str:
    if isinstance(value, dict):
        value = next((value[key] for key in KEYS if key in value), None)
    if not isinstance(value, str) or not value:
        raise CheckpointError(f"{where}: expected a text or an object with {' or '.join(KEYS)}")
    return value


def encode_texts(
    texts: Sequence[str], model: str | Path, *, longest: int = 0
) -> list[NDArray[np.int64]]:
    """Return the token ids of each text, by the tokenizer.json of the model.

    Args: longest: keep this many tokens, 0 for all.
    Raises: CheckpointError: no tokenizer, or a text without tokens.
    """
    from slimspec.model import open_tokenizer

    tokenizer = open_tokenizer(model)
    encoded = []
    for i, text in enumerate(texts):
        ids = tokenizer.encode(text)
        if not ids.size:
            raise CheckpointError(f"calibration text {i}: no tokens in {clip(text, 60)!r}")
        encoded.append(ids[:longest] if longest else ids)
    return encoded

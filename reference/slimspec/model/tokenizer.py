"""Text to token ids through tokenizer.json, as fast tokenizers of transformers do it.

The `tokenizers` library comes with the extra `model`: pip install "slimspec[model]".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip


class Tokenizer:
    """Whole texts to ids and back; the file's own truncation and padding are off."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        inner.no_truncation()
        inner.no_padding()

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text, with the special tokens that the file prescribes. Returns: (t,) int64."""
        return np.array(self._inner.encode(text).ids, dtype=np.int64)

    def decode(self, ids: NDArray[np.int64]) -> str:
        """The text of ids, without special tokens. Args: ids (t,) integers."""
        return str(self._inner.decode([int(i) for i in ids]))


def open_tokenizer(directory: str | Path) -> Tokenizer:
    """Open the tokenizer.json of a model directory.

    Raises:
        CheckpointError: the library or the file is missing, or the file is no tokenizer.
    """
    path = Path(directory) / "tokenizer.json"
    try:
        from tokenizers import Tokenizer as Library
    except ImportError:
        raise CheckpointError(
            f'{path}: needs the tokenizers library: pip install "slimspec[model]"'
        ) from None
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; it turns text into tokens")
    try:
        return Tokenizer(Library.from_file(str(path)))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path}: no tokenizer ({clip(str(error))})") from None

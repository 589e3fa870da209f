"""Real containers of compressed weights: their layout holds, a stub index is refused precisely.

The recorder had the tool's container but not its compressor: weights are plain NZ bytes and the
index is zero. Any checkpoint with W8A8SC or W16A16SC weights is found by its description.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from slimspec.sparse import StreamError, decompress, nz_to_nd, validate


def compressed_linears(quant: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    labels: dict[str, str] = {}
    tensors: dict[str, np.ndarray] = {}
    for path in sorted(quant.rglob("quant_model_description*.json")):
        labels |= {k: v for k, v in json.loads(path.read_text()).items() if isinstance(v, str)}
    if not any(label in ("W8A8SC", "W16A16SC") for label in labels.values()):
        return
    for path in sorted(quant.rglob("*.safetensors")):
        tensors |= load_file(path)
    for name, label in labels.items():
        if label in ("W8A8SC", "W16A16SC") and name.endswith(".weight"):
            linear = name.removesuffix(".weight")
            yield (
                linear,
                {part: tensors[f"{linear}.{part}"] for part in ("weight", "index", "info")},
            )


def test_stub_streams_have_the_layout_and_are_refused_at_the_index(oracle: Path) -> None:
    folders = sorted((oracle / "checkpoints").glob("*/quant"))
    linears = [linear for folder in folders for linear in compressed_linears(folder)]
    if not linears:
        pytest.skip("no recorded checkpoint has compressed weights")
    for name, parts in linears:
        if parts["index"].any():
            continue  # not a stub
        weight, index, info = parts["weight"], parts["index"], parts["info"]
        layout = validate(weight, index, info, level=0)
        assert [defect.code for defect in layout if not defect.warning] == [], name
        first = next(d for d in validate(weight, index, info) if not d.warning)
        assert (first.level, first.code, first.tile) == (1, "data-length", 0), name
        with pytest.raises(StreamError, match="tile 0, bit 0: data-length"):
            decompress(weight, index, info)
        n1, k1 = -(-int(info[3]) // 16), -(-int(info[2]) // 32)
        plain = weight.reshape(k1, n1, 16, 32)
        assert nz_to_nd(plain, int(info[3]), int(info[2])).any(), name

"""The tile codec of W8A8SC and W16A16SC, and the fractal layout under it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse import compress, decompress, nd_to_nz

from .model import Attributes, Operation, Tensors


def _encode(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    # the definition, not the kernels: small weights are not worth compiling for
    made = compress(t["weight"], a["mode"], by="definition")
    return {"stream": made.weight, "index": made.index, "info": made.info}


def _decode(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    given = t["stream"], t["index"], t["info"]
    return {"weight": decompress(*given, a["mode"], by="definition")}


def _nz(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    rows, columns = a.get("block", (16, 32))
    return {"nz": nd_to_nz(t["weight"], (rows, columns))}


def _weight(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    shape = (sizes.get("n", 128), sizes.get("k", 256))
    w = np.clip(np.rint(random.standard_normal(shape) * 3), -128, 127).astype(np.int8)
    return {"weight": w}, {"mode": "low"} | dict(attributes)


OPERATIONS = (
    Operation(
        "tile_encode", "weight -> stream, index, info (a conforming encoder)", _encode,
        ("stream", "index", "info"), _weight,
    ),
    Operation("tile_decode", "stream, index, info -> weight", _decode, ("weight",)),
    Operation("nd_to_nz", "[n, k] -> [k1, n1, 16, 32], zero padded", _nz, ("nz",), _weight),
)  # fmt: skip

"""The tensors of a row-parallel linear with quantized communication (use_reduce_quant).

The linear keeps its integers, the ranks' side by side; what dequantizes them is stored per rank
under `tp_list.{i}`, and the scales of the sums beside. Source: formats.md 3.0 (reduce), [RUN] tp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.schemes import Linear

from .calibrate import Calibration
from .calibration.communication import SHARD, Communication

Make = Callable[[Linear], Mapping[str, NDArray]]


def parallel_tensors(linear: Linear, sums: Communication, make: Make) -> dict[str, NDArray]:
    """Return suffix -> array. Args: make: the tensors of one rank's linear."""
    parts = [make(part) for part in sums.parallel.cuts(linear)]
    found = {"weight": np.concatenate([part["weight"] for part in parts], axis=1)}
    for i, part in enumerate(parts):
        found |= {f"{SHARD[1:]}{i}.{suffix}": array for suffix, array in part.items()}
    return found | sums.scales()


def parallel_metadata(calibration: Calibration, profile: str) -> dict[str, Any]:
    """Return the metadata keys of the description; profile L0 has none (formats.md 2.1)."""
    sums = calibration.communication.values()
    if profile == "L0" or not any(each.parallel.quantized for each in sums):
        return {}
    return {"reduce_quant_type": "per_channel"}

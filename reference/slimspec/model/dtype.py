"""The dtype a model computes in, unless asked otherwise: that of config.json or of its norms."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from slimspec.checkpoint import Checkpoint, CheckpointError

from .numerics import Numerics

DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def model_numerics(checkpoint: Checkpoint, dtype: DTypeLike | None) -> Numerics:
    """The numerics of a checkpoint's own dtype, or of `dtype`.

    Raises:
        CheckpointError: neither config.json nor the norm weights tell a dtype.
        TypeError: dtype is not float32, float16 or bfloat16.
    """
    if dtype is not None:
        return Numerics(dtype)
    tag = checkpoint.model_dtype
    if tag is None:
        raise CheckpointError(
            f"{checkpoint.path}: config.json: torch_dtype is missing, expected one"
        )
    return Numerics(DTYPES[tag])

"""Random numbers as torch draws them on a CPU: words of MT19937 made into uniforms and normals.

    u = (word mod 2^24) · 2^-24
    u_1, u_2 eight apart in blocks of 16, r = √(-2 ln(1 - u_1)):  r·cos 2πu_2,  r·sin 2πu_2

Elementary functions are those of the platform: a normal may differ from torch's in its last bits.
Source: pytorch aten/src/ATen/core/DistributionsHelper.h (uniform_real_distribution),
aten/src/ATen/native/cpu/DistributionTemplates.h (normal_fill).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = np.float32
BLOCK = 16  # normals come in whole blocks; fewer take another way in torch


class TorchStream:
    """The numbers that follow `torch.manual_seed(seed)`."""

    def __init__(self, seed: int) -> None:
        self._words = np.random.RandomState(seed)

    def uniform(self, count: int) -> NDArray[np.float32]:
        """The next `count` numbers in [0, 1)."""
        words = np.frombuffer(self._words.bytes(4 * count), "<u4")
        return (words & np.uint32((1 << 24) - 1)).astype(F32) * F32(2.0**-24)

    def normal(self, count: int) -> NDArray[np.float32]:
        """The next `count` normal numbers. Raises: ValueError for less than 16."""
        if count < BLOCK:
            raise ValueError(f"{count} normal numbers: expected at least {BLOCK}")
        made = self.uniform(count)
        whole = count // BLOCK * BLOCK
        made[:whole] = _normals(made[:whole])
        if whole < count:  # the last block is drawn anew and overlaps the one before
            made[count - BLOCK :] = _normals(self.uniform(BLOCK))
        return made


def _normals(u: NDArray[np.float32]) -> NDArray[np.float32]:
    first, second = np.moveaxis(u.reshape(-1, 2, BLOCK // 2), 1, 0)  # (blocks, 8) each
    radius = np.sqrt(F32(-2) * np.log(F32(1) - first))
    angle = F32(2 * np.pi) * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


__all__ = ["TorchStream"]

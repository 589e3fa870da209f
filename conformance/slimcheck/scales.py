"""When a stored scale is none: not finite, negative, or 0 although it scales something."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.elements import Mask, wrong_elements
from slimcheck.findings import Finding
from slimcheck.values.modules import Module

Floats = NDArray[np.float32]

SMALLEST_NORMAL = np.float32(2.0**-126)
SMALLEST_NORMAL_F16 = np.float32(2.0**-14)
IMPLAUSIBLE = np.float32(1)  # no input_scale · weight_scale of a real layer comes near


def no_scale(x: Floats) -> Mask:
    """NaN, infinite or negative."""
    return ~(np.isfinite(x) & (x >= 0))


def are_scales(module: Module, suffix: str) -> bool:
    """Whether all are finite and above 0: most are, and no element needs a look of its own."""
    least, most = module.between(suffix)
    return 0 < least <= most < np.inf


def bare_zeros(module: Module, scale: NDArray[Any]) -> Mask:
    """Zeros of `scale` that scale an integer other than 0.

    The low-bit calibrator gives a row of zeros the scale 0. Where the integers cannot be assigned
    to the scales (a packed weight, a shape that another rule rejects) no zero is held against it.
    """
    zeros: Mask = np.asarray(scale == 0)
    if not zeros.any():
        return zeros
    still = idle(module, scale.shape)
    return np.zeros_like(zeros) if still is None else zeros & ~still


def idle(module: Module, shape: tuple[int, ...]) -> Mask | None:
    """Which scales of that shape scale zeros only; None if the shape does not say what."""
    form = module.form
    if form is None:
        return None
    n, k = form.shape
    if shape in ((1,), ()):
        rows = module.idle(1)
        return None if rows is None else np.full(shape, rows.all())
    columns = 1 if shape == (n,) else shape[1] if len(shape) == 2 and shape[0] == n else 0
    if columns and not k:
        return np.ones(shape, bool)
    still = module.idle(columns)
    return None if still is None else still.reshape(shape)


def not_above_zero(
    requirement: str, module: Module, suffix: str, *, idle: bool = False
) -> Iterator[Finding]:
    """Findings for elements of a scale that are none; `idle`: one that scales zeros may be 0."""
    scale = module.numbers(suffix)
    if scale is not None and not are_scales(module, suffix):
        zeros = bare_zeros(module, scale) if idle else scale == 0
        yield from wrong_elements(
            requirement, module, suffix, no_scale(scale) | zeros, "finite, above 0"
        )


def by_number(module: Module) -> bool:
    """Whether an I64 deq_scale holds numbers cast to integers instead of bits: zeros only."""
    if "deq_scale" not in module or module.cls.tensors["deq_scale"].dtype != "I64":
        return False
    words = module.array("deq_scale")
    return not words.any() and bool(bare_zeros(module, words).any())


def usable(module: Module, deq_scale: Floats) -> Mask:
    """Elements of deq_scale that are scales at all (the others have rules of their own)."""
    scales = np.isfinite(deq_scale) & (deq_scale > 0) & (deq_scale < IMPLAUSIBLE)
    return scales & (not by_number(module))

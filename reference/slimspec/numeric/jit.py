"""When compiled kernels are worth loading, told without importing numba."""

from __future__ import annotations

import os

_FAST_FROM = 1 << 16  # elements; below, loading the kernels costs more than it saves


def jit_enabled() -> bool:
    """Tell whether numba compiles: NUMBA_DISABLE_JIT is unset, empty or 0."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")


def jit_pays(size: int) -> bool:
    """Tell whether kernels are on and `size` elements are worth loading them."""
    return size >= _FAST_FROM and jit_enabled()

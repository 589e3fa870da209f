"""Compiled and plain code give the same bytes: one digest with numba on, one with it off."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import hashlib
import ml_dtypes, numpy as np
from slimspec.numeric import as_float32, to_dtype
from slimspec.pack import (
    pack_awq, pack_compressed, pack_int4, unpack_awq, unpack_compressed, unpack_int4
)
rng = np.random.default_rng(9)
x = rng.integers(0, 2**32, (300, 400), dtype=np.uint32).view(np.float32)
q = rng.integers(-8, 8, (900, 640), dtype=np.int8)
out = []
for dtype in (np.float16, ml_dtypes.bfloat16):
    narrow = to_dtype(x, dtype)
    out += [narrow, as_float32(narrow.T)]
for axis in (0, 1):
    packed = pack_int4(q.T, axis)
    out += [packed, unpack_int4(packed, axis)]
words = pack_awq((q + 8).view(np.uint8))
out += [words, unpack_awq(words)]
words = pack_compressed(q)
out += [words, unpack_compressed(words, q.shape)]
digest = hashlib.sha256()
for array in out:
    digest.update(np.ascontiguousarray(array).view(np.uint8).tobytes())
print(digest.hexdigest())
"""


def digest(disabled: str) -> str:
    env = os.environ | {"NUMBA_DISABLE_JIT": disabled}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


def test_bytes_do_not_depend_on_compilation() -> None:
    compiled = digest("0")
    assert len(compiled) == 64
    assert digest("1") == compiled

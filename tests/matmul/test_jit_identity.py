"""The same bits with the JIT on and off: one digest, computed twice."""

import os
import subprocess
import sys

SCRIPT = """
import hashlib
import numpy as np
from slimspec.matmul import matmul_exact, matmul_float, matmul_int8, quantize_dynamic
digest = hashlib.sha256()
rng = np.random.default_rng(8)
for m, k, n in [(0, 3, 2), (1, 300, 70), (5, 2000, 33), (50, 2100, 9), (60, 1501, 100)]:
    x, w = (rng.integers(-128, 128, s, dtype=np.int8) for s in ((m, k), (n, k)))
    digest.update(matmul_int8(x, w).tobytes() + matmul_exact(x, w).tobytes())
    a, b = rng.normal(size=(m, k)).astype(np.float16), rng.normal(size=(n, k)).astype(np.float32)
    digest.update(matmul_float(a, b).tobytes())
full = np.full((2, 132000), -128, np.int8)
digest.update(matmul_int8(full, full).tobytes())
for variant in ("golden", "k910b", "k310p"):
    q = quantize_dynamic(rng.normal(size=(80, 1000)).astype(np.float16), variant=variant)
    digest.update(q.q.tobytes() + q.scale.tobytes())
edge = rng.normal(size=(80, 1000)).astype(np.float32)
edge[3], edge[4, 7], edge[5, 8], edge[6] = 0, np.nan, np.inf, 2.0**-149
edge[7, ::2], edge[8] = 2.0**-148, rng.integers(-254, 255, 1000) / 2
edge[8, 0] = 127
for bits in (8, 4):
    q = quantize_dynamic(edge, bits=bits)
    digest.update(q.q.tobytes() + np.nan_to_num(q.scale, nan=-1).tobytes())
print(digest.hexdigest())
"""


def digest(disable_jit):
    env = {**os.environ, "NUMBA_DISABLE_JIT": disable_jit}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_jit_on_and_off_give_identical_bytes():
    assert digest("0") == digest("1")


def test_importing_the_package_does_not_import_numba():
    code = "import sys, slimspec.matmul, slimspec.attention; print('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"

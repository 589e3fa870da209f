"""The evidence: golden checkpoints, the patches that break them, and vectors of operations.

from slimspec.golden import cases

for case in cases("matmul_int8"):
    case.check(my_kernel(**case.inputs))
"""

from slimspec.golden.checkpoints import CheckpointCase, Expected, checkpoint_cases, load_manifest
from slimspec.golden.vectors import VectorCase, cases

__all__ = [
    "CheckpointCase",
    "Expected",
    "VectorCase",
    "cases",
    "checkpoint_cases",
    "load_manifest",
]

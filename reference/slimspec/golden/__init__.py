"""The evidence: golden checkpoints, and the patches that break them in one way each."""

from slimspec.golden.cases import CheckpointCase, Expected, checkpoint_cases, load_manifest

__all__ = ["CheckpointCase", "Expected", "checkpoint_cases", "load_manifest"]

"""Replay the producer's checkpoints: float model + captured calibration -> the same bytes.

Shared by the oracle tests and `benchmarks.oracle_report`; pytest collects nothing from here.
"""

from .case import Case, find_cases, oracle_root
from .replay import CaseReport, LinearReport, replay

__all__ = ["Case", "CaseReport", "LinearReport", "find_cases", "oracle_root", "replay"]

"""Numbers on a command line that are refused at once when they make no sense."""

import argparse
import math
import threading

from slimspec.checkpoint.writer import GIB


def size_in_gib(text: str) -> float:
    """Read a shard size: 0 for one file, else at least one byte.

    Raises: ArgumentTypeError for anything else.
    """
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not (size == 0 or 1 <= size * GIB < math.inf):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected 0 or a size in GiB")
    return size


def count(text: str) -> int:
    """Read an integer from 0 on. Raises: ArgumentTypeError for anything else."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected an integer, 0 or more")
    return value


def seconds(text: str) -> float:
    """Read a time above 0. Raises: ArgumentTypeError for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected seconds, more than 0")
    return value

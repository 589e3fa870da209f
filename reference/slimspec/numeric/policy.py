"""What a narrowing float cast does with values that the narrow type does not hold."""

from __future__ import annotations

from typing import Literal, get_args

# "inf": IEEE, overflow becomes infinity and NaN stays NaN (numerics profile `canonical`).
# "saturate": overflow and infinity become the largest finite value, NaN becomes 0 (profile `sat`).
Overflow = Literal["inf", "saturate"]


def require_overflow(overflow: str) -> None:
    """Refuse a policy that does not exist. Raises: ValueError. Source: integer_semantics B.11."""
    if overflow not in get_args(Overflow):
        raise ValueError(f"overflow policy {overflow!r} is none of {get_args(Overflow)}")

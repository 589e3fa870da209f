"""The four verdicts, and one thing that speaks for one of them."""

from typing import NamedTuple

OK = "ok"
WRONG = "loads with wrong results"
FAILS = "will not load"
UNKNOWN = "unknown"


class Says(NamedTuple):
    """One thing that is not as the engine has it; verdict OK makes it a note."""

    verdict: str
    reason: str

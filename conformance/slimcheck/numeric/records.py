"""What a comparison with the float model says of one tensor."""

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """From what is certain to what cannot be told."""

    EXACT = "EXACT"  # the quantizer, in the producer's numerics, gives the same numbers
    EXACT_UNDER = "EXACT-UNDER"  # it does in other numerics, which are named
    BOUND = "BOUND"  # every code is the nearest one, within a stated slack
    TRANSFORMED = "TRANSFORMED"  # so it is after a smoothing or rotation that was verified
    DIFFERS = "DIFFERS"  # changed after it was quantized, or made from another weight
    NOT_JUDGED = "NOT JUDGED"  # and why


@dataclass(frozen=True, slots=True)
class Change:
    """Elements of one tensor that are not what all others of it say they should be."""

    suffix: str
    count: int
    of: int
    at: tuple[int, ...]  # the first
    found: float
    expected: float
    far: bool = True  # beyond half a step, and not the other way to round


@dataclass(frozen=True, slots=True)
class Comparison:
    """One linear, or one float tensor, beside its float model.

    Attributes:
        name: module of a linear; the tensor itself where it is FLOAT.
        numerics: which arithmetic or transform explains it.
        equal: share of the codes that are the same.
        worst: largest distance from the nearest code, in steps; None where steps are uneven.
        slack: largest allowance beyond half a step that rounding may need, in steps.
        clipped: share of the elements past the last code.
        sqnr: of the weight as it is used, in dB; inf where it is equal; None where not computed.
        cosine: of the angle between the weight as it is used and the float one.
        changes: of an outcome DIFFERS.
        note: what else there is to say; the reason of NOT JUDGED.
    """

    name: str
    label: str
    outcome: Outcome
    numerics: str = ""
    equal: float | None = None
    worst: float | None = None
    slack: float | None = None
    clipped: float = 0.0
    sqnr: float | None = None
    cosine: float | None = None
    changes: tuple[Change, ...] = field(default=())
    note: str = ""

    @property
    def verdict(self) -> str:
        """The outcome with the numerics that it depends on."""
        named = self.outcome in (Outcome.EXACT_UNDER, Outcome.TRANSFORMED) and self.numerics
        return f"{self.outcome}({self.numerics})" if named else str(self.outcome)

"""Compare outputs with a vector: bit for bit, or within the stated bound."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Difference:
    """One output that is not as expected; `at` is None where dtype or shape differ."""

    output: str
    wrong: int
    total: int
    at: tuple[int, ...] | None
    expected: str
    found: str

    def text(self) -> str:
        if self.at is None:
            return f"{self.output}: expected {self.expected}, found {self.found}"
        place = f"{self.output}[{', '.join(map(str, self.at))}]"
        share = f"{self.wrong} of {self.total} elements differ"
        return f"{share}, first {place}: expected {self.expected}, found {self.found}"


def compare(
    expected: Mapping[str, NDArray],
    found: Mapping[str, NDArray],
    tolerance: Mapping[str, Mapping[str, Any]],
) -> list[Difference]:
    """Return the outputs of `found` that leave the tolerance, in the order of `expected`.

    Two NaNs are equal; +0 and -0 are not, except within a bound.
    """
    differences = []
    for name, want in expected.items():
        have = found.get(name)
        if have is None:
            differences.append(Difference(name, 0, want.size, None, _kind(want), "no output"))
        elif have.dtype != want.dtype or have.shape != want.shape:
            differences.append(Difference(name, 0, want.size, None, _kind(want), _kind(have)))
        else:
            close = within(want, have, tolerance.get(name, {"class": "bit-exact"}))
            if not close.all():
                at = tuple(int(i) for i in np.argwhere(~close)[0])
                texts = element_text(want[at]), element_text(have[at])
                wrong = int((~close).sum())
                differences.append(Difference(name, wrong, want.size, at, *texts))
    return differences


def within(want: NDArray, have: NDArray, bound: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which elements agree under a tolerance class."""
    equal = same_bits(want, have)
    if bound["class"] == "bit-exact":
        return equal
    if bound["class"] == "codes":
        steps = np.abs(want.astype(np.int64) - have.astype(np.int64))
    else:
        steps = np.abs(ordinals(want) - ordinals(have))
        steps = np.where(is_nan(want) | is_nan(have), np.iinfo(np.int64).max, steps)
    return equal | (steps <= bound["bound"])


def same_bits(want: NDArray, have: NDArray) -> NDArray[np.bool_]:
    """Return elementwise equality of bits; two NaNs are equal."""
    return (_bits(want) == _bits(have)) | (is_nan(want) & is_nan(have))


def ordinals(x: NDArray) -> NDArray[np.int64]:
    """Number floats in their order, one step for each representable value; -0 is +0."""
    width = 8 * x.dtype.itemsize
    bits = _bits(x).astype(np.int64)
    largest = np.int64(2 ** (width - 1) - 1)  # bits of the size; the sign makes int64 negative
    return np.where((bits < 0) | (bits > largest), -(bits & largest), bits)


def is_nan(x: NDArray) -> NDArray[np.bool_]:
    """Return where x is NaN; nowhere for integers."""
    if x.dtype.kind in "iub":
        return np.zeros(x.shape, np.bool_)
    return np.isnan(x.astype(np.float32) if x.dtype.itemsize < 4 else x)


def element_text(value: Any) -> str:
    """Show one element; floats with their bits."""
    array = np.asarray(value)
    if array.dtype.kind in "iub":
        return str(array.item())
    digits = 2 * array.dtype.itemsize
    return f"{float(array):.9g} (0x{int(_bits(array.reshape(1))[0]):0{digits}x})"


def _bits(x: NDArray) -> NDArray:
    return np.ascontiguousarray(x).view(np.dtype(f"u{x.dtype.itemsize}")).reshape(x.shape)


def _kind(x: NDArray) -> str:
    return f"{x.dtype} {list(x.shape)}"

"""Which linears a numeric run looks at: all, a share of every layer, or a number over all layers.

The choice depends on names and the seed alone, not on files or their order.
"""

import hashlib
import re
from collections.abc import Iterable
from fractions import Fraction
from itertools import zip_longest

SEED = "slimcheck"
_LAYER = re.compile(r"(.*?\.)(\d+)(\.|$)")


class SampleError(ValueError):
    """The text of --sample means nothing."""


def layer_of(name: str) -> str:
    """The part of a name up to its first number: "model.layers.7."; the name itself without one."""
    found = _LAYER.match(name)
    return found[1] + found[2] if found else name


def choose(names: Iterable[str], sample: str = "all", seed: str = SEED) -> list[str]:
    """Return the chosen names, sorted.

    "all"; "5%" takes that share of each layer, at least one; "40" takes so many, one of every
    layer before a second of any.

    Raises:
        SampleError: another text, a share outside (0, 100], a number below 1.
    """
    layers: dict[str, list[str]] = {}
    for name in names:
        layers.setdefault(layer_of(name), []).append(name)
    for members in layers.values():
        members.sort(key=lambda name: _order(name, seed))
    count, share = parse(sample)
    if share is not None:
        return sorted(
            name for members in layers.values() for name in members[: _ceil(len(members) * share)]
        )
    if count is None:
        return sorted(name for members in layers.values() for name in members)
    queues = [layers[key] for key in sorted(layers, key=lambda key: _order(key, seed))]
    dealt = [name for turn in zip_longest(*queues) for name in turn if name is not None]
    return sorted(dealt[:count])


def parse(sample: str) -> tuple[int | None, Fraction | None]:
    """Return (number, None), (None, share), or (None, None) for all.

    Raises: SampleError.
    """
    text = sample.strip()
    if text == "all":
        return None, None
    percent = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)%", text)
    if percent:
        share = Fraction(percent[1]) / 100
        if 0 < share <= 1:
            return None, share
    elif re.fullmatch(r"\d{1,9}", text) and int(text) > 0:
        return int(text), None
    raise SampleError(f"--sample {sample!r}: expected all, a share such as 5%, or a number")


def _order(name: str, seed: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest()


def _ceil(x: Fraction) -> int:
    return -(-x.numerator // x.denominator)

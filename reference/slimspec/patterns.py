"""Many tensor names said in one: `model.layers.{0-60}.mlp.experts.{0-255}.down_proj.weight`."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_MOST_GLOBS = 4096  # that a glob with braces may stand for
_DIGITS = re.compile(r"(\d+)")
_WORDS_SHOWN = 8


def matches_glob(name: str, glob: str) -> bool:
    """Whether a name matches a glob whose braces hold alternatives, as `layers.{0,7,31}.*`."""
    return any(fnmatchcase(name, plain) for plain in without_braces(glob))


@lru_cache(1024)
def without_braces(glob: str) -> tuple[str, ...]:
    """The globs that one with braces stands for.

    Raises: ValueError: there are more than 4096 of them.
    """
    found = [glob]
    while any(_BRACES.search(item) for item in found):
        opened = []
        for item in found:
            match = _BRACES.search(item)
            words = match[1].split(",") if match else [""]
            begin, end = match.span() if match else (len(item), len(item))
            opened += [item[:begin] + word + item[end:] for word in words]
        found = opened
        if len(found) > _MOST_GLOBS:
            raise ValueError(f"{glob[:80]!r}: braces for more than {_MOST_GLOBS} globs")
    return tuple(found)


def collapse(names: Sequence[str]) -> str:
    """Return one pattern that covers `names`.

    Names are cut at their dots; a position where they differ becomes `{a,b}` for words and
    `{0-3,7}` for numbers (also for numbers inside a word); a shared ending stays outside,
    as in `{k,q,v}_proj`. The pattern may cover more than the
    names given, so it is always shown with their count.
    """
    if not names:
        return ""
    split = [name.split(".") for name in names]
    depth = min(map(len, split))
    tail = [row[depth - 1 :] for row in split]
    columns: list[list[str]] = [[row[i] for row in split] for i in range(depth - 1)]
    columns.append([".".join(row) for row in tail])
    return ".".join(_collapse_column(column) for column in columns)


def _collapse_column(words: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(words))
    if len(distinct) == 1:
        return distinct[0]
    skeletons: dict[str, list[list[str]]] = {}
    for word in distinct:
        skeletons.setdefault(_DIGITS.sub("#", word), []).append(_DIGITS.findall(word))
    said = [_fill(skeleton, numbers) for skeleton, numbers in skeletons.items()]
    if len(said) == 1:
        return said[0]
    if len(said) > _WORDS_SHOWN:
        return "*"
    tail = _common_tail(said)
    return "{" + ",".join(sorted(word.removesuffix(tail) for word in said)) + "}" + tail


def _common_tail(words: Sequence[str]) -> str:
    """The longest ending from an underscore on that all words share and none consists of."""
    first = words[0]
    cuts = [i for i, letter in enumerate(first) if letter == "_" and i > 0]
    for cut in cuts:
        if all(word.endswith(first[cut:]) and word != first[cut:] for word in words):
            return first[cut:]
    return ""


def _fill(skeleton: str, numbers: list[list[str]]) -> str:
    parts = skeleton.split("#")
    text = parts[0]
    for slot, part in enumerate(parts[1:]):
        text += _ranges([row[slot] for row in numbers]) + part
    return text


def _ranges(numbers: Sequence[str]) -> str:
    """Say a set of numbers, zero padding kept, as `7`, `{0-3}` or `{0-3,7}`."""
    width = min(map(len, numbers)) if any(n.startswith("0") for n in numbers) else 0
    values = sorted({int(n) for n in numbers})
    if len(values) == 1:
        return numbers[0]
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    said = [f"{a:0{width}d}" if a == b else f"{a:0{width}d}-{b:0{width}d}" for a, b in runs]
    if len(said) > _WORDS_SHOWN:
        return f"{{{said[0]},…,{said[-1]}}}"
    return "{" + ",".join(said) + "}"


def visible(text: str) -> str:
    """Text of a hostile file, safe to show: what is not printable becomes an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)

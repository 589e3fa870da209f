"""What rules, engines and readers say, in Chinese: by the templates of `schemas/phrases`.

They speak English, with names and numbers in it. A template such as "no {what}" is found in a
sentence by its fixed words, and what stands in its places is a name, a number or a phrase in turn.
The facts of engines lie beside them in `schemas/consumers`, as `effect_zh`. What no template makes
more Chinese stays as it is.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from slimcheck.consumers import chinese_effects
from slimspec.data import folder

_PLACE = re.compile(r"\{(\w+)\}")
_ENGLISH = re.compile(r"(?<![\w./'*`{}=-])[a-z]{2,}(?:-[a-z]{2,})*(?![\w./'*`{}=-])")
_QUOTED = re.compile(r"'[^']*'|`[^`]*`|\"[^\"]*\"")
_DEPTH = 3  # phrases within phrases
_LONGEST = 1000  # characters; a sentence of a rule has a few hundred


@dataclass(frozen=True, slots=True)
class Phrase:
    """One template: fixed words around places."""

    fixed: tuple[str, ...]  # one more than there are places
    places: tuple[str, ...]
    chinese: str

    def match(self, text: str) -> dict[str, str] | None:
        """What stands in the places, each of them as short as can be; None if it does not fit."""
        head, *between = self.fixed
        if not between:
            return {} if text == head else None
        tail = between.pop()
        end = len(text) - len(tail)
        if not text.startswith(head) or not text.endswith(tail) or end <= len(head):
            return None
        found, at = [], len(head)
        for words in between:
            next_at = text.find(words, at + 1, end)
            if next_at < 0:
                return None
            found.append(text[at:next_at])
            at = next_at + len(words)
        if at >= end:
            return None
        found.append(text[at:end])
        filled: dict[str, str] = {}
        for place, value in zip(self.places, found, strict=True):
            if filled.setdefault(place, value) != value:
                return None  # a place that is named twice says one thing
        return filled

    def fill(self, said: Mapping[str, str]) -> str:
        """The Chinese with this in its places."""
        return _PLACE.sub(lambda match: said[match[1]], self.chinese)


def phrase(template: str, chinese: str) -> Phrase:
    """Read a template."""
    parts = _PLACE.split(template)
    return Phrase(tuple(parts[::2]), tuple(parts[1::2]), chinese)


def in_chinese(text: str) -> str:
    """Return a sentence in Chinese, as far as the templates know it."""
    return text if len(text) > _LONGEST else _translated(text, _DEPTH)


def english(text: str) -> list[str]:
    """The words of a text that are English, as against names, numbers and what is quoted."""
    return _ENGLISH.findall(_QUOTED.sub("", text))


@lru_cache(1 << 14)
def _translated(text: str, depth: int) -> str:
    """Of all templates that fit, take the one that leaves the fewest English words."""
    exact, templates = _known()
    if text in exact:
        return exact[text]
    best, left = text, len(english(text))
    for each in templates if depth else ():
        if not left:
            break
        found = each.match(text)
        if found is not None:
            chinese = each.fill({k: _translated(value, depth - 1) for k, value in found.items()})
            if len(english(chinese)) < left:
                best, left = chinese, len(english(chinese))
    return best


@cache
def _known() -> tuple[Mapping[str, str], tuple[Phrase, ...]]:
    """Sentences without places, and templates, those with most fixed words first."""
    pairs = dict(_pairs())
    read = [phrase(template, chinese) for template, chinese in pairs.items()]
    exact = {text: chinese for text, chinese in pairs.items() if not _PLACE.search(text)}
    templates = [each for each in read if each.places]
    templates.sort(key=lambda each: -sum(map(len, each.fixed)))
    return exact, tuple(templates)


def _pairs() -> Iterator[tuple[str, str]]:
    for file in sorted((folder("schemas") / "phrases").glob("*.json")):
        yield from json.loads(file.read_text(encoding="utf-8"))["phrases"].items()
    yield from chinese_effects()

"""A requirement in full, for a reader."""

import sys

from slimcheck.report.lang import EN, WORDS, ZH, fix, title, why
from slimspec.requirements import Requirement

_WIDTH = 96
_FIELD = 8


def check_encoding(lang: str) -> None:
    """Stop where standard output cannot carry the language.

    Raises:
        UnicodeEncodeError: it cannot.
    """
    if sys.stdout.encoding:
        WORDS[lang]["found"].encode(sys.stdout.encoding)


def explanation(requirement: Requirement, lang: str = EN) -> str:
    """Return what the requirement asks, where that comes from, why it matters, how to mend it."""
    words = WORDS[lang]
    fields = [("why", why(requirement, lang=lang)), ("fix", fix(requirement, lang=lang))]
    for _, kinds in requirement.own_advice():
        fields.append(("fix", f"{', '.join(kinds)}: {fix(requirement, kinds[0], lang)}"))
    fields += [("source", source) for source in requirement.source]
    if requirement.note:
        fields.append(("note", requirement.note))
    return "\n".join(
        [
            f"{requirement.id}  {title(requirement, lang)}",
            _kind(requirement, lang),
            *(_field(words[name], text) for name, text in fields),
            "",
        ]
    )


def _kind(requirement: Requirement, lang: str) -> str:
    """Level, scope, phase and types on one line."""
    scope, types = scope_text(requirement), ", ".join(sorted(requirement.types))
    if lang == ZH:
        level = WORDS[lang][requirement.level]
        kind = f"{level}，{scope}，检查级别 {requirement.phase}"
        return f"（{kind}{'，类型 ' + types if types else ''}；始于 {requirement.since}）"
    kind = f"{requirement.level}, {scope}, checked at level {requirement.phase}"
    return f"({kind}{', types ' + types if types else ''}; since {requirement.since})"


def scope_text(requirement: Requirement) -> str:
    """For whom the requirement speaks: "format", "producer L0 A0", "mindie, vllm-ascend"."""
    scope = requirement.scope
    if scope.consumers:
        return ", ".join(scope.consumers)
    return " ".join((scope.kind, *scope.profiles))


def _field(name: str, text: str) -> str:
    from rich.text import Text  # knows the width of Chinese

    lines = _wrapped(text, _WIDTH - 2 - _FIELD)
    head = "  " + name + " " * (_FIELD - Text(name).cell_len)
    return "\n".join([head + lines[0], *(" " * (2 + _FIELD) + line for line in lines[1:])])


def _wrapped(text: str, width: int) -> list[str]:
    from rich.console import Console
    from rich.text import Text

    lines = Text(text).wrap(Console(width=width), width, overflow="fold")
    return [line.plain.rstrip() for line in lines] or [""]

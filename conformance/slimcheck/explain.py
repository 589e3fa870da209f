"""A requirement in full, for a reader."""

from textwrap import fill

from slimspec.requirements import Requirement


def explanation(requirement: Requirement) -> str:
    """Return what the requirement asks, where that comes from, why it matters, how to mend it."""
    kind = f"{requirement.level}, {scope_text(requirement)}, checked at level {requirement.phase}"
    if requirement.types:
        kind += f", types {', '.join(sorted(requirement.types))}"
    parts = [
        f"{requirement.id}  {requirement.title}",
        f"({kind}; since {requirement.since})",
        _field("why", requirement.why),
        _field("fix", requirement.fix),
        *(_field("source", source) for source in requirement.source),
    ]
    if requirement.note:
        parts.append(_field("note", requirement.note))
    return "\n".join(parts) + "\n"


def scope_text(requirement: Requirement) -> str:
    """For whom the requirement speaks: "format", "producer L0 A0", "mindie, vllm-ascend"."""
    scope = requirement.scope
    if scope.consumers:
        return ", ".join(scope.consumers)
    return " ".join((scope.kind, *scope.profiles))


def _field(name: str, text: str) -> str:
    return fill(text, 96, initial_indent=f"  {name:<8}", subsequent_indent=" " * 10)

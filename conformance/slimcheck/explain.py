"""A requirement in full, for a reader."""

from textwrap import fill

from slimspec.requirements import Requirement


def explanation(requirement: Requirement) -> str:
    """Return what the requirement asks, where that comes from, why it matters, how to mend it."""
    kind = f"{requirement.level}, {requirement.scope_name}, checked at level {requirement.phase}"
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


def _field(name: str, text: str) -> str:
    return fill(text, 96, initial_indent=f"  {name:<8}", subsequent_indent=" " * 10)

"""What a label of the description stands for."""

from functools import lru_cache

from slimspec import layout


@lru_cache(1024)
def types_of_label(label: str | None, profile: str) -> frozenset[str]:
    """The layout type of a label and the wrapper on it, if any; empty for an unknown label."""
    found = layout.resolve(label, profile) if label is not None else None
    if found is None:
        return frozenset()
    described, wrapper = found
    return frozenset({described.type, wrapper.name} if wrapper else {described.type})

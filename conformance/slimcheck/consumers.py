"""The consumer engines: `schemas/consumers/NAME.json` read once."""

import json
from dataclasses import dataclass
from functools import cache

from slimspec.data import folder


@dataclass(frozen=True, slots=True)
class Consumer:
    """An engine that loads these checkpoints."""

    name: str
    title: str
    labels: dict[str, list[str]]  # label -> kinds of layer ("linear", "moe")
    config: dict[str, list[str | int | None]]  # member of config.json -> values it accepts


@cache
def consumers() -> dict[str, Consumer]:
    """Return every known engine by name."""
    known = {}
    for file in sorted((folder("schemas") / "consumers").glob("*.json")):
        data = json.loads(file.read_text(encoding="utf-8"))
        known[data["name"]] = Consumer(
            data["name"], data["title"], data["labels"], data.get("config", {})
        )
    return known

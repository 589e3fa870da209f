"""Members of config.json with a type and a range; what is wrong is said in one line."""

from __future__ import annotations

import math
from typing import Any

from slimspec.checkpoint import CheckpointError, Config
from slimspec.checkpoint.errors import clip

COUNT_LIMIT = 1 << 24  # no count of layers, heads or columns is larger


class Members:
    """Typed access to the members of one object of config.json.

    Attributes:
        where: what errors name, e.g. "DIR/config.json".
    """

    def __init__(self, where: str, value: dict[str, Any]) -> None:
        self.where = where
        self._value = value

    @classmethod
    def of(cls, config: Config) -> Members:
        """The members of a readable config.json. Raises: CheckpointError: it is not readable."""
        for defect in config.defects:
            raise CheckpointError(f"{config.path.parent}: {defect.message}")
        return cls(str(config.path), config.value)

    def get(self, key: str) -> Any:
        """The member as written, None when absent."""
        return self._value.get(key)

    def object(self, key: str) -> Members | None:
        """The member as an object, None when absent or null."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, "an object")
        return Members(f"{self.where}: {key}", value)

    def count(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """An integer from `least` to COUNT_LIMIT. Raises: CheckpointError."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not least <= value <= COUNT_LIMIT:
            raise self.error(key, f"an integer from {least} to {COUNT_LIMIT}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number that is not negative. Raises: CheckpointError."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        fits = type(value) is float or (type(value) is int and value.bit_length() < 64)
        if not fits or not math.isfinite(value) or value < 0:
            raise self.error(key, "a number of at least 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false. Raises: CheckpointError."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def word(self, key: str, default: str, known: tuple[str, ...]) -> str:
        """One of the known words. Raises: CheckpointError."""
        value = self.get(key)
        value = default if value is None else value
        if value not in known:
            raise self.error(key, " or ".join(known))
        return str(value)

    def counts(self, key: str) -> tuple[int, ...]:
        """A list of integers of at least 0, () when absent. Raises: CheckpointError."""
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or any(type(v) is not int or v < 0 for v in value):
            raise self.error(key, "a list of integers")
        return tuple(value)

    def error(self, key: str, expected: str) -> CheckpointError:
        """The error for a member that is not as expected."""
        found = "no such member" if self.get(key) is None else clip(self.get(key), 60)
        return CheckpointError(f"{self.where}: {key}: found {found}, expected {expected}")

"""The types are loaded when one is asked for: each registers itself when it is imported."""

from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules


@cache
def load_all() -> None:
    """Import every module of this package."""
    for info in iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{info.name}")

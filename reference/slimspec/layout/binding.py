"""Solve the dimensions of one linear from all its tensors, and name the one that contradicts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from types import MappingProxyType

from slimspec.layout import symbols
from slimspec.layout.model import Shape, TensorRule, match_shape

Item = tuple[str, tuple[Shape, ...], tuple[int, ...]]  # suffix, alternatives, shape found
Choice = tuple[int, ...]  # index of the alternative of each item, in order


@dataclass(frozen=True, slots=True)
class ShapeProblem:
    """One tensor whose shape contradicts the others: `expected` reads "[n, 1] = [128, 1]"."""

    suffix: str
    found: tuple[int, ...]
    expected: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The symbols found, the tensors that contradict them, and the packing of each tensor."""

    env: Mapping[str, int]
    problems: tuple[ShapeProblem, ...]
    chosen: Mapping[str, int]  # suffix -> index of the shape alternative that fits

    @property
    def ok(self) -> bool:
        """True if every tensor fits."""
        return not self.problems


_EMPTY = Binding(MappingProxyType({}), (), MappingProxyType({}))


def bind(rules: Mapping[str, TensorRule], shapes: Mapping[str, tuple[int, ...]]) -> Binding:
    """Solve n, k, g … from the shapes of the tensors of one linear.

    Every combination of shape alternatives is tried; the one that leaves the fewest tensors
    unexplained wins, earlier tensors of `rules` being trusted first.

    Args:
        rules: suffix -> rule, from `Layout.rules`.
        shapes: suffix -> shape as found; suffixes without a rule are ignored.
    """
    items = tuple(
        (suffix, rule.shapes, tuple(shapes[suffix]))
        for suffix, rule in rules.items()
        if rule.shapes is not None and suffix in shapes
    )
    return _bind(items)


@lru_cache(maxsize=4096)
def _bind(items: tuple[Item, ...]) -> Binding:
    best: tuple[dict[str, int], frozenset[int], Choice] | None = None
    for choice in _choices(items):
        for first in range(len(items)):
            env, fitting = _fit(items, choice, first)
            if best is None or len(fitting) > len(best[1]):
                best = (env, fitting, choice)
            if len(fitting) == len(items):
                return _binding(items, env, fitting, choice)
    return _binding(items, *best) if best else _EMPTY


def _choices(items: tuple[Item, ...]) -> Iterator[Choice]:
    return product(*(range(len(alternatives)) for _, alternatives, _ in items))


def _fit(
    items: tuple[Item, ...], choice: Choice, first: int
) -> tuple[dict[str, int], frozenset[int]]:
    """Take item `first`, then the others in order, as far as they agree."""
    order = [first, *(i for i in range(len(items)) if i != first)]
    env: dict[str, int] = {}
    fitting: set[int] = set()
    for i in order:
        bound = match_shape(items[i][1][choice[i]], items[i][2], env)
        if bound is not None:
            env = bound
            fitting.add(i)
    # A dimension under ceil() binds nothing: look again with everything known.
    late = {i for i in fitting if match_shape(items[i][1][choice[i]], items[i][2], env) is None}
    return env, frozenset(fitting - late)


def _binding(
    items: tuple[Item, ...], env: dict[str, int], fitting: frozenset[int], choice: Choice
) -> Binding:
    problems = tuple(
        ShapeProblem(suffix, found, _expected(alternatives, env))
        for i, (suffix, alternatives, found) in enumerate(items)
        if i not in fitting
    )
    chosen = {items[i][0]: choice[i] for i in sorted(fitting)}
    return Binding(MappingProxyType(env), problems, MappingProxyType(chosen))


def _expected(alternatives: tuple[Shape, ...], env: Mapping[str, int]) -> str:
    texts = []
    for formula in alternatives:
        symbolic = ", ".join(map(str, formula))
        numbers = ", ".join(symbols.render(dim, env) for dim in formula)
        texts.append(f"[{symbolic}] = [{numbers}]" if numbers != symbolic else f"[{symbolic}]")
    return " or ".join(texts)

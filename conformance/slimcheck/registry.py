"""Rules and the requirements that they check.

A rule is a generator of findings bound to a requirement id. Two kinds:

* a *layout rule* is called once with the `Context` of a directory (headers and JSON only);
* a *value rule* is called once per module of the types that the requirement is about, with a
  `Module` that reads tensor bytes on demand (`slimcheck.values.modules`).

A requirement about both headers and bytes has one rule of each kind. A layout rule with `reads`
compares tensors of several modules or directories and waits for level values.

Where a directory is cut into part{r}-of-{N} sub-directories, the root and every part have a
context of their own; `on` says which of them a layout rule looks at.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from slimcheck.findings import Finding

if TYPE_CHECKING:
    from slimcheck.context import Context
    from slimcheck.values.modules import Module
    from slimcheck.values.stacks import Stack

LayoutCheck = Callable[["Context"], Iterable[Finding]]
ValueCheck = Callable[["Context", "Module"], Iterable[Finding]]

# Of a stack of modules: whether the rule has no finding in any of its members.
Clear = Callable[["Context", "Stack"], bool]

WEIGHTS = frozenset({"whole", "part"})  # contexts that hold tensors
ROOT = frozenset({"whole", "root"})  # contexts that hold config.json and the tokenizer
EVERYWHERE = WEIGHTS | ROOT


@dataclass(frozen=True, slots=True)
class LayoutRule:
    requirement: str
    check: LayoutCheck
    on: frozenset[str]
    reads: bool = False  # reads tensor bytes: not for level layout
    needs_tp: bool = False  # asks how many ranks will serve: not without --tp


@dataclass(frozen=True, slots=True)
class ValueRule:
    requirement: str
    check: ValueCheck
    clears: Clear | None = None


@dataclass(frozen=True, slots=True)
class AfterRule:
    requirement: str
    check: LayoutCheck


_layout_rules: dict[str, LayoutRule] = {}
_after_rules: dict[str, AfterRule] = {}
_value_rules: dict[str, ValueRule] = {}


def rule(
    requirement: str,
    on: frozenset[str] = WEIGHTS,
    *,
    reads: bool = False,
    needs_tp: bool = False,
) -> Callable[[LayoutCheck], LayoutCheck]:
    """Bind a check of a whole directory to a requirement id.

    Raises:
        ValueError: the id already has a layout rule.
    """

    def bind(check: LayoutCheck) -> LayoutCheck:
        _refuse_second(requirement, _layout_rules)
        _layout_rules[requirement] = LayoutRule(requirement, check, on, reads, needs_tp)
        return check

    return bind


def value_rule(
    requirement: str, *, by_row: bool = False, clears: Clear | None = None
) -> Callable[[ValueCheck], ValueCheck]:
    """Bind a value check to a requirement id.

    Args:
        by_row: the rule judges each row by itself, so a stack as its members: it clears those where
            it finds nothing in the stack.
        clears: what clears a stack, of another rule.

    Raises:
        ValueError: the id already has a value rule.
    """

    def bind(check: ValueCheck) -> ValueCheck:
        def silent(context: "Context", stack: "Stack") -> bool:
            return not any(True for _ in check(context, stack))

        _refuse_second(requirement, _value_rules)
        _value_rules[requirement] = ValueRule(requirement, check, silent if by_row else clears)
        return check

    return bind


def after_rule(requirement: str) -> Callable[[LayoutCheck], LayoutCheck]:
    """Bind a check that compares what a value rule of the same id noted of all modules.

    Raises:
        ValueError: the id already has such a rule.
    """

    def bind(check: LayoutCheck) -> LayoutCheck:
        _refuse_second(requirement, _after_rules)
        _after_rules[requirement] = AfterRule(requirement, check)
        return check

    return bind


def _refuse_second(requirement: str, bound: Container[str]) -> None:
    if requirement in bound:
        raise ValueError(f"requirement {requirement} has two rules of one kind")


def layout_rules() -> dict[str, LayoutRule]:
    _load_chapters()
    return _layout_rules


def value_rules() -> dict[str, ValueRule]:
    _load_chapters()
    return _value_rules


def after_rules() -> dict[str, AfterRule]:
    _load_chapters()
    return _after_rules


def _load_chapters() -> None:
    for module in _chapters():
        import_module(module)


def _chapters() -> Iterator[str]:
    from slimcheck import rules

    for info in iter_modules(rules.__path__):
        yield f"slimcheck.rules.{info.name}"

"""Symbolic dimensions: a tiny arithmetic of positive integers, read from data and never evaluated.

    expression := factor (("*" | "/") factor)*
    factor     := integer | symbol | "ceil(" expression ")" | "(" expression ")"

`/` is exact: a dimension that does not come out as an integer does not match. `ceil` rounds up.
The same few lines can be rewritten in any language that reads `schemas/`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

Env = Mapping[str, int]

_TOKEN = re.compile(r"\s*(?:(\d{1,18})|([A-Za-z_][A-Za-z_0-9]*)|([*/()]))")
_MAX_DEPTH = 16


class SymbolError(ValueError):
    """An expression in the data is not in the grammar."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node: `op` is "int", "sym", "*", "/" or "ceil"."""

    op: str
    value: int = 0
    name: str = ""
    args: tuple["Node", ...] = ()


@cache
def parse(text: str | int) -> Node:
    """Read one expression, e.g. 1, "n", "k/g", "ceil(k/32)", "L*R".

    Raises:
        SymbolError: the text is outside the grammar of this module.
    """
    if isinstance(text, int):
        return Node("int", text)
    tokens = _tokens(text)
    node, rest = _expression(tokens, text, 0)
    if rest:
        raise SymbolError(f"{text!r}: unexpected {rest[0]!r}")
    return node


def _tokens(text: str) -> tuple[str, ...]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        hit = _TOKEN.match(text, at)
        if hit is None:
            raise SymbolError(f"{text!r}: cannot read from {text[at:]!r}")
        found.append(hit.group().strip())
        at = hit.end()
    return tuple(found)


def _expression(tokens: tuple[str, ...], text: str, depth: int) -> tuple[Node, tuple[str, ...]]:
    node, tokens = _factor(tokens, text, depth)
    while tokens and tokens[0] in "*/":
        right, rest = _factor(tokens[1:], text, depth)
        node, tokens = Node(tokens[0], args=(node, right)), rest
    return node, tokens


def _factor(tokens: tuple[str, ...], text: str, depth: int) -> tuple[Node, tuple[str, ...]]:
    if not tokens or depth > _MAX_DEPTH:
        raise SymbolError(f"{text!r}: incomplete or too deep")
    head, rest = tokens[0], tokens[1:]
    if head.isdigit():
        return Node("int", int(head)), rest
    if head == "(" or (head == "ceil" and rest[:1] == ("(",)):
        node, rest = _expression(rest if head == "(" else rest[1:], text, depth + 1)
        if rest[:1] != (")",):
            raise SymbolError(f"{text!r}: missing ')'")
        return (node if head == "(" else Node("ceil", args=(node,))), rest[1:]
    if head in "*/)":
        raise SymbolError(f"{text!r}: unexpected {head!r}")
    return Node("sym", name=head), rest


def symbols(node: Node) -> frozenset[str]:
    """Return the names in an expression."""
    own = frozenset({node.name}) if node.op == "sym" else frozenset()
    return own.union(*(symbols(arg) for arg in node.args)) if node.args else own


def evaluate(node: Node, env: Env) -> Fraction | None:
    """Return the exact value, or None when a symbol is unbound or a divisor is zero."""
    if node.op == "int":
        return Fraction(node.value)
    if node.op == "sym":
        return Fraction(env[node.name]) if node.name in env else None
    parts = [evaluate(arg, env) for arg in node.args]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if node.op == "ceil":
        return Fraction(math.ceil(known[0]))
    if node.op == "*":
        return known[0] * known[1]
    return known[0] / known[1] if known[1] else None


def solve(node: Node, target: int, env: Env) -> dict[str, int] | None:
    """Bind the one unbound symbol of `node` so that it equals `target`.

    Returns:
        {} when nothing is left to bind and the value fits, or when the unknowns cannot be told
        from this dimension alone (two of them, or one under `ceil`); the new binding otherwise;
        None when the dimension contradicts `env`.
    """
    value = evaluate(node, env)
    if value is not None:
        return {} if value == target else None
    unknown = symbols(node) - env.keys()
    if len(unknown) != 1:
        return {}
    found = _invert(node, Fraction(target), env, next(iter(unknown)))
    if found is None:
        return {}
    if found.denominator != 1 or found < 0:
        return None
    return {next(iter(unknown)): found.numerator}


def _invert(node: Node, target: Fraction, env: Env, name: str) -> Fraction | None:
    """Return x with node(x) == target, or None when there is no single one."""
    if node.op == "sym":
        return target
    if node.op not in "*/":
        return None
    left, right = node.args
    if name in symbols(left) and name in symbols(right):
        return None
    inside, other = (left, right) if name in symbols(left) else (right, left)
    factor = evaluate(other, env)
    if factor is None:
        return None
    if node.op == "*":
        return _invert(inside, target / factor, env, name) if factor else None
    if inside is left:
        return _invert(inside, target * factor, env, name)
    return _invert(inside, factor / target, env, name) if target else None


def render(text: str | int, env: Env) -> str:
    """Return the number an expression stands for, or its text while that is unknown."""
    value = evaluate(parse(text), env)
    return str(value) if value is not None else str(text)


_COMPARE = re.compile(r"^([^<>=]+)(==|<=|>=|<|>)([^<>=]+)$")


def holds(statement: str, env: Env) -> bool | None:
    """Judge "L*R == k" and the like; None while a symbol is unbound.

    Raises:
        SymbolError: not one comparison of two expressions.
    """
    hit = _COMPARE.match(statement)
    if hit is None:
        raise SymbolError(f"{statement!r} is not a comparison")
    left, right = evaluate(parse(hit[1].strip()), env), evaluate(parse(hit[3].strip()), env)
    if left is None or right is None:
        return None
    return {
        "==": left == right,
        "<=": left <= right,
        ">=": left >= right,
        "<": left < right,
        ">": left > right,
    }[hit[2]]

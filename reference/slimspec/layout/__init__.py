"""The only reader of `schemas/layouts`: which tensors a quantization type has, per producer.

>>> from slimspec import layout
>>> rules = layout.rules("W8A8_DYNAMIC", "A1")
>>> layout.bind(rules, {"weight": (128, 64), "weight_scale": (128, 1)}).env["n"]
128
"""

from slimspec.layout import profiles, symbols, vocabulary
from slimspec.layout.binding import Binding, ShapeProblem, bind
from slimspec.layout.labels import (
    Derivation,
    attachments,
    base_label,
    derivations,
    resolve,
    rules,
)
from slimspec.layout.model import (
    MODEL,
    SELF,
    Constraint,
    Layout,
    LayoutError,
    TensorRule,
    Values,
    load,
    types,
    write_dtype,
)
from slimspec.layout.symbols import SymbolError, holds

__all__ = [
    "MODEL",
    "SELF",
    "Binding",
    "Constraint",
    "Derivation",
    "Layout",
    "LayoutError",
    "ShapeProblem",
    "SymbolError",
    "TensorRule",
    "Values",
    "attachments",
    "base_label",
    "bind",
    "derivations",
    "holds",
    "load",
    "profiles",
    "resolve",
    "rules",
    "symbols",
    "types",
    "vocabulary",
    "write_dtype",
]

"""The worked example as Markdown, which also reads well as plain text."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import slimspec
from slimspec import layout
from slimspec.checkpoint.dtypes import tag_of
from slimspec.layout import profiles
from slimspec.numeric import as_float32

from .example import DTYPES, Example, writers

_SHOWN = 8  # columns of a matrix
_BYTES = 16  # of a stored tensor
_HERE = Path(slimspec.__file__).parent


def render(example: Example, picture: str = "") -> str:
    """Return the page of one type; `picture` is the file name of its drawing."""
    return "\n".join(_lines(example, picture)) + "\n"


def _lines(example: Example, picture: str) -> Iterator[str]:
    scheme = example.scheme
    yield f"# {scheme.label}: {layout.load(scheme.label).title}"
    yield ""
    yield from inspect.cleandoc(type(scheme).__doc__ or "").splitlines()
    yield ""
    routine = Path(inspect.getfile(type(scheme))).relative_to(_HERE)
    yield f"The routine: `slimspec/{routine.as_posix()}`."
    if picture:
        yield from ("", f"![{scheme.label}: the steps, the error, the codes]({picture})")
    yield from ("", "## One linear, worked through", "")
    asked = "".join(f", {name} {value}" for name, value in _asked(example).items())
    yield f"A {example.dtype} model, as profile {example.profile} quantizes it{asked}. The weight:"
    yield from _matrix(as_float32(example.linear.weight))
    scales = _scales(example)
    yield f"Its codes{', with the scale of each row or group behind them' if scales else ''}:"
    yield from _matrix(example.codes, scales)
    yield "What they stand for:"
    yield from _matrix(example.restored)
    yield from _error(example)
    yield "A product, float above and quantized below, for an input of two tokens:"
    yield from _matrix(np.concatenate([example.exact, example.y.astype(np.float64)]))
    yield from ("## What is stored", "")
    yield from _stored(example)
    yield from _others(example)


def _asked(example: Example) -> dict[str, object]:
    shown = dict(example.options)
    if "activation_range" in shown:
        low, high = shown["activation_range"]
        shown["activation_range"] = f"{float(low):g} … {float(high):g}"
    return {name.replace("_", " "): value for name, value in shown.items()}


def _scales(example: Example) -> list[str]:
    """The scales of a row, one text per row."""
    q = example.q
    if q.weight_scale is None:
        return []
    scale = as_float32(q.weight_scale)
    if q.weight_scale.dtype == np.uint8:  # E8M0
        texts = [[f"2^{int(v) - 127}" for v in row] for row in q.weight_scale]
    else:
        texts = [[f"{v:.6g}" for v in row] for row in scale.reshape(-1, scale.shape[-1])]
    if q.weight_scale_second is not None:
        second = as_float32(q.weight_scale_second)
        texts = [[*a, *(f"· {v:g}" for v in b)] for a, b in zip(texts, second, strict=True)]
    if q.weight_dual_scale is not None:
        dual = as_float32(q.weight_dual_scale)[..., 0]
        texts = [[*a, *(f"· {v:g}" for v in b)] for a, b in zip(texts, dual, strict=True)]
    return [" ".join(row) for row in texts]


def _matrix(matrix: NDArray, behind: Sequence[str] = ()) -> Iterator[str]:
    """The first columns as an indented block."""
    n, k = matrix.shape
    shown = matrix[:, :_SHOWN]
    yield ""
    for i in range(n):
        cells = "".join(f"{value:>11.5g}" for value in shown[i] + 0)
        more = " …" if k > _SHOWN else ""
        yield f"    {cells}{more}{'   × ' + behind[i] if behind else ''}".rstrip()
    if k > _SHOWN:
        yield f"    (columns 0 to {_SHOWN - 1} of {k})"
    yield ""


def _error(example: Example) -> Iterator[str]:
    w = as_float32(example.linear.weight)
    error = np.abs(w - example.restored)
    i, j = np.unravel_index(int(error.argmax()), error.shape)
    if example.lossless:
        yield "No weight changed."
    else:
        yield (
            f"The largest error is {error[i, j]:.4g}, in row {i}, column {j}: "
            f"{w[i, j]:.5g} became {example.restored[i, j]:.5g}."
        )
    yield ""


def _stored(example: Example) -> Iterator[str]:
    rules = layout.rules(example.scheme.label, example.profile)
    yield "| tensor | dtype | shape | shape in general | first bytes |"
    yield "|---|---|---|---|---|"
    for suffix, array in example.stored.items():
        rule = rules[suffix]
        formula = " or ".join(f"[{', '.join(map(str, shape))}]" for shape in rule.shapes or ())
        raw = array.tobytes()
        shown = raw[:_BYTES].hex(" ") + (" …" if len(raw) > _BYTES else "")
        kind = f"{tag_of(array.dtype)} | {list(array.shape)}"
        yield f"| `{suffix}` | {kind} | {formula} | `{shown}` |"
    yield ""


def _others(example: Example) -> Iterator[str]:
    """Where other producers or models differ, from the layout."""
    label = example.scheme.label
    own = layout.rules(label, example.profile)
    for profile in writers(label):
        rules = layout.rules(label, profile)
        unlike = [
            f"`{suffix}` {_kind(rule)}"
            for suffix, rule in rules.items()
            if suffix not in own or _kind(rule) != _kind(own[suffix])
        ]
        if profile != example.profile:
            title = profiles.profile(profile).title
            yield f"- Profile {profile} ({title}): {', '.join(unlike) or 'the same tensors'}."
    yield f"- D is the dtype of the model: {', '.join(f'{t} of {d}' for d, t in DTYPES.items())}."


def _kind(rule: layout.TensorRule) -> str:
    if rule.presence == "forbidden":
        return "is not there"
    shapes = " or ".join(f"[{', '.join(map(str, shape))}]" for shape in rule.shapes or ())
    return f"{'/'.join(rule.dtypes)} {shapes}"

"""Named mistakes of operations for which a mistake is the right kernel on something changed.

`op_of` makes of them an operation of the diagnosis; the axes are independent, two at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.golden.operations import operation
from slimspec.golden.vectors import VectorCase
from slimspec.matmul.diagnosis import Op

Tensors = Mapping[str, NDArray]


@dataclass(frozen=True)
class Mistake:
    """What is changed: inputs (None takes one away), attributes, outputs."""

    inputs: Mapping[str, Callable[[Tensors], NDArray] | None] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Callable[[NDArray], NDArray]] = field(default_factory=dict)


def _changed(name: str, change: Callable[[NDArray], NDArray]) -> Mistake:
    return Mistake(inputs={name: lambda t: change(t[name])})


def _without(*names: str) -> Mistake:
    return Mistake(inputs=dict.fromkeys(names))


def _swapped(x: NDArray) -> NDArray:
    bits = np.ascontiguousarray(x).view(np.uint8)
    return (bits << np.uint8(4) | bits >> np.uint8(4)).view(x.dtype)


def _shifted(steps: int) -> Callable[[NDArray], NDArray]:
    """E8M0 bytes moved by `steps`, 255 (NaN) left alone."""
    return lambda x: np.where(x == 255, x, np.clip(x.astype(np.int16) + steps, 0, 254)).astype(
        np.uint8
    )


def _in_sequence(words: NDArray) -> NDArray:
    """Words whose codes come in sequence where they were in the order 0 2 4 6 1 3 5 7."""
    bits = words.view(np.uint32)
    order = (0, 4, 1, 5, 2, 6, 3, 7)
    parts = [(bits >> np.uint32(4 * p) & np.uint32(15)) << np.uint32(4 * i)
             for i, p in enumerate(order)]  # fmt: skip
    return np.bitwise_or.reduce(parts).view(np.int32)


def _first(x: NDArray) -> NDArray:
    """The first scale for all."""
    return np.full_like(x, x.reshape(-1)[0])


_TRANSPOSED = {"rotation transposed": _changed("rotation", lambda r: np.ascontiguousarray(r.T))}
_MASK = {"mask ignored": _without("mask")}
_PROBABILITIES = {"online probabilities instead of p_scale": _without("p_scale")}
_ROTARY = {"rotary part ignored": _changed("q_rope", np.zeros_like)}
_SCALES = {
    "exponent bias 126": _changed("weight_scale", _shifted(1)),
    "exponent bias 128": _changed("weight_scale", _shifted(-1)),
    "one exponent for the whole row": _changed(
        "weight_scale", lambda s: np.repeat(s[:, :1], s.shape[1], axis=1)
    ),
}
_AWQ_ORDER = {"words read in sequence": _changed("qweight", _in_sequence)}

# operation -> axis -> name of the mistake -> what it changes
MISTAKES: dict[str, dict[str, dict[str, Mistake]]] = {
    "rotate_inputs": {"side": _TRANSPOSED},
    "rotate_outputs": {"side": _TRANSPOSED},
    "fuse_norm": {"weight": {"1 + weight": _changed("norm_weight", lambda g: g + g.dtype.type(1))}},
    "dequantize_mx": {
        "exponent": _SCALES,
        "nibbles": {"nibbles swapped": _changed("weight", _swapped)},
    },
    "awq_to_w4a16": {
        "order": _AWQ_ORDER,
        "zero": {
            "offset negated": Mistake(outputs={"weight_offset": np.negative}),
            "zero points read in sequence": _changed("qzeros", _in_sequence),
        },
        "nibbles": {"nibbles swapped": Mistake(outputs={"weight": _swapped})},
    },
    "w4a16_to_awq": {
        "nibbles": {"nibbles swapped": _changed("weight", _swapped)},
        "zero": {"offset negated": _changed("weight_offset", lambda z: np.clip(-z, -8, 7))},
    },
    "observe_range": {
        "joined": {
            "extremes instead of their mean": Mistake(attributes={"method": "extremes"}),
            "mean instead of extremes": Mistake(attributes={"method": "mean"}),
        }
    },
    "observe_heads": {
        "window": {"all samples instead of the window": Mistake(attributes={"ratio": 1.0})}
    },
    "reduce_mantissa": {
        "rounding": {"truncated": Mistake(attributes={"nearest": False})},
        "kept": {"nothing kept": _without("keep")},
    },
    "scale_bias": {
        "second": {"second scale ignored": _without("second")},
        "factor": {"factor 8 missing": Mistake(outputs={"scale_bias": lambda b: b / 8})},
    },
    "round_heads_fp8": {"scale": {"scale of the first head": _changed("scale", _first)}},
    "attention_int8": {
        "mask": _MASK,
        "probabilities": _PROBABILITIES,
        "scale": {"scale of the first head": _changed("q_scale", _first)},
    },
    "attention_float": {"mask": _MASK},
    # a key offset moves all scores of a query alike, which softmax does not see
    "decode_attention": {
        "offset": {
            "value offset ignored": _without("v_offset"),
            "value offset added": _changed("v_offset", np.negative),
        }
    },
    "mla_attention_latent": {
        "mask": _MASK,
        "rotary": _ROTARY,
        "scale": {"scale of the latent ignored": _changed("k_scale", np.ones_like)},
    },
    "mla_attention_int8": {
        "mask": _MASK,
        "rotary": _ROTARY,
        "probabilities": _PROBABILITIES,
        "scale": {"scale of the first head": _changed("q_scale", _first)},
    },
}


def mistaken(case: VectorCase, *mistakes: Mistake) -> dict[str, NDArray]:
    """Return the outputs of the reference on a case with some mistakes made."""
    inputs, attributes = dict(case.inputs), dict(case.settings)
    for mistake in mistakes:
        for name, change in mistake.inputs.items():
            if name in inputs and change is None:
                del inputs[name]
            elif name in inputs and change is not None:
                inputs[name] = change(case.inputs)
        attributes |= mistake.attributes
    op = operation(case.op)
    made, _ = op.split(op.run(inputs, attributes))
    for mistake in mistakes:
        for name, after in mistake.outputs.items():
            made[name] = np.asarray(after(made[name]))
    return made


def op_of(case: VectorCase) -> Op | None:
    """Return the diagnosis of a case's operation, or None where no mistake of it is known."""
    axes = MISTAKES.get(case.op)
    if axes is None:
        return None

    def run(choice: Mapping[str, Mistake]) -> tuple[NDArray, ...]:
        with np.errstate(all="ignore"):
            return tuple(mistaken(case, *choice.values()).values())

    return Op(case.op, {axis: {"": Mistake()} | named for axis, named in axes.items()}, run)

"""Let torch do what the reference does in an order or with a rounding of its own.

Matrix products, attention, rotary angles, powers and silu go to the torch of this machine while
`torch_library` is open. What then still differs from a recorded run is a difference of method; what
vanishes was one of the library's last digits. A development tool: torch must be importable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimspec.model import attention, rope, sdpa
from slimspec.model.numerics import Numerics
from slimspec.numeric import add, as_float32, power, to_dtype
from slimspec.smooth import fold
from slimspec.smooth.fold import Affine

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@contextmanager
def torch_library() -> Iterator[None]:
    """Replace functions of the reference by torch's while open, on one thread.

    Raises: ImportError: no torch.
    """
    import torch

    torch.set_num_threads(1)
    with ExitStack() as stack:
        for name, own in (("product", _product), ("batched", _batched), ("silu", _silu)):
            stack.enter_context(patch.object(Numerics, name, own))
        for old, new in (
            (sdpa.attend_fused, _fused),
            (attention.attend, _eager),
            (rope.cos_sin, _cos_sin),
            (power.power, _power),
            (fold.shift_consumer, _shift_consumer),
        ):
            for module in _users(old):
                stack.enter_context(patch.object(module, old.__name__, new))
        yield


def _users(function: Callable[..., Any]) -> list[Any]:
    """Modules of the reference that hold a function under its own name."""
    modules = [m for n, m in list(sys.modules.items()) if n.partition(".")[0] == "slimspec"]
    return [m for m in modules if getattr(m, function.__name__, None) is function]


def _tensor(x: NDArray) -> Any:
    import torch

    x = np.array(x, order="C")
    if x.dtype == BFLOAT16:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def _array(x: Any) -> NDArray:
    import torch

    x = x.contiguous()
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(BFLOAT16)
    return x.numpy()


def _product(self: Numerics, x: NDArray, w: NDArray, bias: NDArray | None = None) -> NDArray:
    import torch

    parts = self.round(x)[None], self.round(w.T), None if bias is None else self.round(bias)
    tensors = [None if part is None else _tensor(part) for part in parts]
    return _array(torch.nn.functional.linear(*tensors)[0])


def _batched(self: Numerics, a: NDArray, b: NDArray) -> NDArray:
    return _array(_tensor(a)[None] @ _tensor(b)[None])[0]


def _silu(self: Numerics, x: NDArray) -> NDArray:
    import torch

    return _array(torch.nn.functional.silu(_tensor(self.round(x))))


def _heads(q: NDArray, k: NDArray, v: NDArray) -> tuple[Any, Any, Any]:
    group = len(q) // len(k)
    return _tensor(q)[None], *(_tensor(np.repeat(x, group, axis=0))[None] for x in (k, v))


def _rows(out: Any) -> NDArray:
    """(1, h, t, d) to (t, h·d)."""
    found = _array(out)[0].transpose(1, 0, 2)
    return found.reshape(len(found), -1)


def _fused(
    q: NDArray, k: NDArray, v: NDArray, scale: float, hidden: NDArray | None, numerics: Numerics
) -> NDArray:
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    causal = hidden is not None and np.array_equal(hidden, np.triu(np.ones_like(hidden), 1))
    seen = None if hidden is None or causal else torch.from_numpy(~hidden)
    return _rows(attend(*_heads(q, k, v), attn_mask=seen, is_causal=causal, scale=scale))


def _eager(
    q: NDArray, k: NDArray, v: NDArray, scale: float, hidden: NDArray | None, numerics: Numerics
) -> NDArray:
    import torch

    queries, keys, values = _heads(q, k, v)
    scores = queries @ keys.transpose(2, 3) * scale
    if hidden is not None:
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(torch.from_numpy(np.array(hidden)), lowest)
    p = torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(queries.dtype)
    return _rows(p @ values)


def _cos_sin(turns: rope.Rope, positions: NDArray, dtype: np.dtype) -> tuple[NDArray, NDArray]:
    import torch

    frequencies, factor = rope.frequencies(turns)
    half = positions.astype(np.float32)[:, None] * frequencies
    angles = _tensor(np.concatenate([half, half], axis=1))  # as the model holds them
    cos, sin = (
        _array(of(angles))[:, : half.shape[1]] * np.float32(factor) for of in (torch.cos, torch.sin)
    )
    return to_dtype(cos, dtype), to_dtype(sin, dtype)


def _power(x: NDArray, exponent: float) -> NDArray:
    return _array(_tensor(x).pow(exponent))


def _shift_consumer(linear: Affine, shift: NDArray) -> Affine:
    w, dtype = linear.weight, linear.weight.dtype
    moved = _array(_tensor(as_float32(shift))[None] @ _tensor(as_float32(w)).T)[0]
    bias = np.zeros(w.shape[0], dtype) if linear.bias is None else linear.bias
    return Affine(w, add(bias, to_dtype(moved, dtype), dtype))


__all__ = ["torch_library"]

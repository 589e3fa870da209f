"""Vectors of smoothing folds."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from slimspec.golden import exact

from .model import Definition, f32


def cases() -> Iterator[Definition]:
    random = np.random.RandomState(51)
    number = 1
    for tag in ("F32", "F16", "BF16"):
        form = exact.FORMATS[tag]
        scale = random.uniform(0.1, 9, 16).astype(np.float32).astype(form.dtype)
        norm, bias = (
            random.standard_normal(16).astype(np.float32).astype(form.dtype) for _ in "nb"
        )
        w = random.standard_normal((4, 16)).astype(np.float32).astype(form.dtype)
        tall = np.ascontiguousarray(w.T)
        for variant in ("v0", "v1"):
            reciprocal = exact.div(1.0, scale, form)

            def out(x: Any, s: Any, r: Any, variant: str = variant, form: Any = form) -> Any:
                return exact.div(x, s, form) if variant == "v0" else exact.mul(x, r, form)

            comment = f"in {tag}: v0 divides, v1 multiplies by 1/s that was rounded first"
            yield Definition(
                "fold_norm", f"{number:03}", comment,
                {"weight": norm, "bias": bias, "scale": scale},
                {"weight_out": out(norm, scale, reciprocal),
                 "bias_out": out(bias, scale, reciprocal)},
                {"variant": variant}, ("FoldDirection", "ReciprocalScale", "ModelDtype"), (),
                "math.md 8.1, 8.2",
            )  # fmt: skip
            yield Definition(
                "fold_producer", f"{number:03}", comment,
                {"weight": tall, "bias": bias, "scale": scale},
                {"weight_out": out(tall, scale[:, None], reciprocal[:, None]),
                 "bias_out": out(bias, scale, reciprocal)},
                {"variant": variant}, ("FoldDirection", "ReciprocalScale", "ModelDtype"), (),
                "math.md 8.1, 8.2",
            )  # fmt: skip
            number += 1
        yield Definition(
            "fold_consumer", f"{number // 2:03}", f"columns times their scale, one rounding in"
            f" {tag}",
            {"weight": w, "scale": scale}, {"weight_out": exact.mul(w, scale, form)}, {},
            ("FoldDirection", "ChannelIndex"), (), "math.md 8.1",
        )  # fmt: skip
    a, w = f32(4, 9, 0, 1e-12, 16), f32(1, 4, 1, 1, 0.25)
    yield Definition(
        "smooth_scale", "001", "alpha 1/2: sqrt(a)/sqrt(w) = 2, 1.5, then twice the floor 1e-5, 8;"
        " roots of squares are exact", {"a": a, "w": w},
        {"scale": f32(2, 1.5, 1e-5, 1e-5, 8)}, {"alpha": 0.5}, ("ZeroRange",), (), "math.md 8.0",
    )  # fmt: skip
    weight = f32([[1, 2, -3], [0.5, 0, 4]])
    shift, bias = f32(2, -1, 0.5), f32(10, 20)
    yield Definition(
        "shift_consumer", "001", "bias + shift·Wᵀ on the original weight: -1.5 and 3 are added",
        {"weight": weight, "bias": bias, "shift": shift},
        {"weight_out": weight, "bias_out": f32(8.5, 23)}, {}, ("FoldDirection",), (), "math.md 8.1",
    )  # fmt: skip
    yield Definition(
        "shift_producer", "001", "W / s and (b - shift) / s",
        {"weight": weight, "bias": bias, "shift": f32(2, -4), "scale": f32(2, 0.5)},
        {"weight_out": f32([[0.5, 1, -1.5], [1, 0, 8]]), "bias_out": f32(4, 48)}, {},
        ("FoldDirection",), (), "math.md 8.1",
    )  # fmt: skip

"""Vectors of Hadamard transforms and of rotations folded into linears."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .model import Definition, f32

_SOURCE = "math.md 11.1"
_ROT = ("ROT-002",)


def cases() -> Iterator[Definition]:
    yield from _transforms()
    yield from _rotations()
    yield from _norms()


def _sylvester(n: int) -> NDArray[np.float32]:
    """H[i, j] = (-1)^popcount(i & j)."""
    return f32([[(-1) ** (i & j).bit_count() for j in range(n)] for i in range(n)])


def _transforms() -> Iterator[Definition]:
    x = np.random.RandomState(61).randint(-99, 100, (3, 16)).astype(np.float32)
    x[1], x[2, :2] = 0, (-0.0, 2.0**-126)
    yield Definition(
        "hadamard_transform", "001", "n = 16: sums of integers with the signs (-1)^popcount(i & j),"
        " divided by 4, all exact; the last row holds -0 and the least normal number, which is lost"
        " in the sums", {"x": x},
        {"y": exact.cast(_sums(x, _sylvester(16)) / 4, exact.F32)}, {},
        ("RotationSide", "Subnormal"), _ROT, _SOURCE,
    )  # fmt: skip
    x = f32([[1, 0], [3, -5], [1e-40, 1e-40]])
    root = f32([np.sqrt(np.float64(2))])  # the float32 next to the root of 2
    yield Definition(
        "hadamard_transform", "002", "n = 2: a ± b divided by the float32 root of 2, not multiplied"
        " by a rounded 1/sqrt(2); subnormal numbers", {"x": x},
        {"y": exact.div(_sums(x, _sylvester(2)), root)}, {},
        ("RotationSide", "ReciprocalScale", "Subnormal"), _ROT, _SOURCE,
    )  # fmt: skip


def _sums(x: NDArray, h: NDArray) -> NDArray:
    """x·Hᵀ rounded once, as the exact sums of few bits that they are here."""
    return x.astype(np.float64) @ h.astype(np.float64).T


# rows of H4/2 permuted, signs flipped: orthogonal, not symmetric, all entries ±1/2
_R = _sylvester(4)[[2, 0, 3, 1]] * f32([1, -1, -1, 1]) / np.float32(2)


def _rotations() -> Iterator[Definition]:
    if not np.array_equal(_R @ _R.T, np.eye(4)) or np.array_equal(_R, _R.T):
        raise AssertionError("the rotation is not orthogonal, or cannot tell R from its transpose")
    random = np.random.RandomState(62)
    whole = np.kron(np.eye(2), _R.astype(np.float64))
    for key, tag in (("001", "BF16"),):
        form = exact.FORMATS[tag]
        w = random.randint(-127, 128, (3, 8)).astype(np.float32).astype(form.dtype)
        turned = w.astype(np.float64) @ whole
        x = random.randint(-9, 10, (5, 8)).astype(np.float64)
        if not np.array_equal((x @ whole) @ turned.T, x @ w.astype(np.float64).T):
            raise AssertionError("rotated inputs and weights do not give the same product")
        yield Definition(
            "rotate_inputs", key, f"in {tag}: W·R of halves of integers, R of order 4 twice along"
            " the diagonal; (x·R)·(W·R)ᵀ = x·Wᵀ holds exactly before the rounding",
            {"weight": w, "rotation": _R}, {"weight_out": exact.cast(turned, form)}, {},
            ("RotationSide", "ModelDtype"), _ROT, _SOURCE,
        )  # fmt: skip
    for key, tag, shape in (("001", "F16", (8, 3)), ("002", "BF16", (8,))):
        form = exact.FORMATS[tag]
        top = 4097 if tag == "F16" else 255
        w = random.randint(-top, top, shape).astype(np.float32).astype(form.dtype)
        turned = whole.T @ w.astype(np.float64)
        if not np.array_equal(whole @ turned, w.astype(np.float64)):
            raise AssertionError("the rotation of the next linear's inputs does not undo it")
        yield Definition(
            "rotate_outputs", key, f"in {tag}: Rᵀ·{'W' if len(shape) > 1 else 'b'}; R undoes it"
            " exactly before the rounding", {"weight": w, "rotation": _R},
            {"weight_out": exact.cast(turned, form)}, {}, ("RotationSide", "ModelDtype"), _ROT,
            _SOURCE,
        )  # fmt: skip


def _norms() -> Iterator[Definition]:
    random = np.random.RandomState(63)
    for key, tag in (("001", "BF16"),):
        form = exact.FORMATS[tag]
        w, g = (
            random.standard_normal(s).astype(np.float32).astype(form.dtype) for s in ((3, 8), 8)
        )
        g[:4] = (0.0, -1.0, 1.0, 2.0)
        yield Definition(
            "fuse_norm", key, f"in {tag}: columns times the norm's weight, one rounding; weights of"
            " 0, -1, 1 and 2 among them", {"weight": w, "norm_weight": g},
            {"weight_out": exact.mul(w, g, form)}, {}, ("FoldDirection", "SignedZero"), (), _SOURCE,
        )  # fmt: skip
    for key, tag, shape in (("001", "BF16", (4, 5)),):
        form = exact.FORMATS[tag]
        w = random.randint(-255, 256, shape).astype(np.float32).astype(form.dtype)
        mean = w.astype(np.float64).sum(axis=0) / 4  # exact
        yield Definition(
            "bake_mean", key, f"in {tag}: the mean over four rows is exact in float64, the"
            " difference is rounded once; a mean in the model's dtype differs", {"weight": w},
            {"weight_out": exact.sub(w, mean, form)}, {}, ("FoldDirection", "ModelDtype"), (),
            _SOURCE,
        )  # fmt: skip

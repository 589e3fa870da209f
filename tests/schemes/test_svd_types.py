"""SVD labels: a low-rank float branch and a quantized residual."""

import ml_dtypes
import numpy as np
import pytest

from slimspec import schemes
from slimspec.schemes import Linear

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def factors(w: np.ndarray, rank: int, dtype=np.float32) -> dict[str, np.ndarray]:
    u, s, v = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    return {
        "svd_lowrank_l1": v[:rank].astype(np.float32).astype(dtype),
        "svd_lowrank_l2": (u[:, :rank] * s[:rank]).astype(np.float32).astype(dtype),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", ["W4A4_MXFP4_SVD", "W8A8_SVD_DYNAMIC", "W8A8_MXFP8_SVD"])
def test_tensor_set_has_both_factors_in_the_dtype_of_the_model(label: str, dtype) -> None:
    w = normal(1, 16, 64)
    scheme = schemes.get(label)
    parts = factors(w, 4, dtype)
    q = scheme.quantize(Linear(w.astype(dtype)), parts=parts, variant="v1")
    tag = {np.float32: "F32", np.float16: "F16"}.get(dtype, "BF16")
    written = scheme.tensors(q, "A1", tag)
    inner = scheme.inner.tensors(scheme.unwrap(q), "A1", tag)
    assert set(written) == set(inner) | set(parts)
    assert all(written[s].dtype == dtype for s in parts)
    again = scheme.from_tensors(written, "A1")
    assert (scheme.dequantize(again) == scheme.dequantize(q)).all()


def test_residual_of_a_low_rank_weight_is_almost_nothing() -> None:
    w = normal(1, 16, 3) @ normal(2, 3, 64)
    scheme = schemes.get("W4A4_MXFP4_SVD")
    q = scheme.quantize(Linear(w), parts=factors(w, 3), variant="v1")
    assert np.abs(scheme.dequantize(q) - w).max() < 1e-4


def test_branch_lowers_the_error() -> None:
    w = normal(1, 32, 64)
    w += 20 * normal(2, 32, 1) @ normal(3, 1, 64)
    scheme = schemes.get("W4A4_MXFP4_SVD")
    q = scheme.quantize(Linear(w), parts=factors(w, 1), variant="v1")
    plain = scheme.inner.quantize(Linear(w), variant="v1")
    own = np.abs(scheme.dequantize(q) - w).mean()
    assert own < np.abs(scheme.inner.dequantize(plain) - w).mean() / 2


def test_forward_is_the_inner_product_and_the_branch() -> None:
    w, x = normal(1, 16, 64), normal(2, 3, 64)
    scheme = schemes.get("W8A8_SVD_DYNAMIC")
    parts = factors(w, 4)
    q = scheme.quantize(Linear(w, normal(3, 16)), parts=parts, variant="v1")
    l1, l2 = (parts[part].astype(np.float64) for part in ("svd_lowrank_l1", "svd_lowrank_l2"))
    low = (x.astype(np.float64) @ l1.T).astype(np.float32)
    branch = (low.astype(np.float64) @ l2.T).astype(np.float32)
    assert (scheme.forward(q, x) == scheme.inner.forward(scheme.unwrap(q), x) + branch).all()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "needs svd_lowrank_l1, svd_lowrank_l2"),
        ({"svd_lowrank_l1": normal(1, 4, 64)}, "needs svd_lowrank_l2"),
        (
            {"svd_lowrank_l1": normal(1, 4, 32), "svd_lowrank_l2": normal(1, 16, 4)},
            r"\(16, 4\) · l1 \(4, 32\) is not \(16, 64\)",
        ),
    ],
)
def test_bad_factors_are_refused(given: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        schemes.get("W8A8_SVD_DYNAMIC").quantize(
            Linear(normal(1, 16, 64)), parts=given, variant="v1"
        )

"""FAQuant: one scale per head of queries, keys and values."""

import re

import ml_dtypes
import numpy as np
import pytest

from slimspec import schemes
from slimspec.attention import attention_float
from slimspec.layout import vocabulary
from slimspec.schemes.faquant import FAQuant, quant_type

SCHEME = FAQuant()
ROLES = ("fa_q", "fa_k", "fa_v")


def normal(seed: int, *shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(dtype)


def batches(dtype=np.float32, heads=(4, 2, 2)) -> dict[str, list[np.ndarray]]:
    return {
        role: [normal(10 * i + b, 1, h, 6, 8, dtype=dtype) for b in range(3)]
        for i, (role, h) in enumerate(zip(ROLES, heads, strict=True))
    }


def test_scales_are_the_largest_magnitude_of_a_head_over_all_batches() -> None:
    seen = batches()
    ratios = dict.fromkeys(ROLES, 1.0)
    a = SCHEME.quantize(seen, variant="v1", ratios=ratios)
    for role in ROLES:
        amax = np.max(
            [np.abs(b[0]).reshape(b.shape[1], -1).max(axis=1) for b in seen[role]], axis=0
        )
        assert (a.need(f"{role}.scale")[:, 0] == amax / np.float32(127)).all()


def test_ratio_leaves_outliers_out() -> None:
    x = np.zeros((1, 1, 100, 10), np.float32)
    x[0, 0, :, 0] = 1
    x[0, 0, 0, 0] = 1000
    all_in = SCHEME.quantize({"fa_k": [x]}, variant="v1", ratios={"fa_k": 1.0})
    most = SCHEME.quantize({"fa_k": [x]}, variant="v1", ratios={"fa_k": 0.999})
    assert all_in.need("fa_k.scale")[0, 0] == np.float32(1000) / np.float32(127)
    assert most.need("fa_k.scale")[0, 0] == np.float32(1) / np.float32(127)


@pytest.mark.parametrize(("element", "offset"), [("int8", np.int8), ("fp8_e4m3", np.float32)])
@pytest.mark.parametrize("profile", ["A1", "MF"])
def test_newer_profiles_store_float32_scales(profile, element, offset) -> None:
    a = SCHEME.quantize(batches(ml_dtypes.bfloat16), variant="v1", element=element)
    written = SCHEME.tensors(a, profile, "BF16")
    assert set(written) == {f"{r}.{w}" for r in ROLES for w in ("scale", "offset")}
    assert written["fa_q.scale"].shape == (4, 1)
    assert written["fa_k.scale"].shape == written["fa_v.offset"].shape == (2, 1)
    assert all(written[f"{r}.scale"].dtype == np.float32 for r in ROLES)
    assert all(written[f"{r}.offset"].dtype == offset for r in ROLES)
    assert not any(written[f"{r}.offset"].any() for r in ROLES)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("profile", ["L0", "A0"])
def test_older_profiles_keep_the_dtype_of_the_scale(profile, dtype) -> None:
    a = SCHEME.quantize(batches(dtype), variant="v0")
    written = SCHEME.tensors(a, profile, "BF16")
    assert all(written[f"{r}.scale"].dtype == dtype for r in ROLES)
    assert all(written[f"{r}.offset"].dtype == np.int8 for r in ROLES)


def test_a_role_quantized_at_run_time_has_no_tensors() -> None:
    seen = batches(heads=(4, 1, 1))
    del seen["fa_q"]
    a = SCHEME.quantize(seen, variant="v1", element="fp8_e4m3")
    written = SCHEME.tensors(a, "A1", "F32")
    assert set(written) == {"fa_k.scale", "fa_k.offset", "fa_v.scale", "fa_v.offset"}
    assert written["fa_k.scale"].shape == (1, 1)
    q, k, v = normal(1, 4, 3, 8), normal(2, 1, 5, 8), normal(3, 1, 5, 8)
    again = SCHEME.from_tensors(written, "A1")
    assert np.abs(SCHEME.forward(again, q, k, v) - attention_float(q, k, v)).max() < 0.2


@pytest.mark.parametrize(("element", "limit"), [("int8", 0.05), ("fp8_e4m3", 0.2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_forward_is_near_the_float_attention(element, limit, dtype) -> None:
    q, k, v = (normal(i, h, 6, 8, dtype=dtype) for i, h in enumerate((4, 2, 2)))
    seen = {"fa_q": [q[None]], "fa_k": [k[None]], "fa_v": [v[None]]}
    whole = dict.fromkeys(ROLES, 1.0)  # of so few samples, less would cut off the largest
    a = SCHEME.quantize(seen, variant="v1", element=element, ratios=whole)
    y = SCHEME.forward(a, q, k, v)
    assert y.dtype == dtype
    exact = attention_float(*(x.astype(np.float32) for x in (q, k, v)))
    assert np.abs(y.astype(np.float32) - exact).max() < limit


def test_int8_attention_needs_every_scale() -> None:
    a = SCHEME.quantize({"fa_k": batches()["fa_k"]}, variant="v1", name="m")
    x = normal(1, 2, 3, 8)
    with pytest.raises(ValueError, match=r"m: FAQuant has no fa_q\.scale"):
        SCHEME.forward(a, x, x, x)


def test_v0_has_no_fp8() -> None:
    with pytest.raises(ValueError, match="v0 is int8, not fp8_e4m3"):
        SCHEME.quantize(batches(), variant="v0", element="fp8_e4m3")


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"fa_q": [normal(1, 1, 2, 3, 4)]}, "no calibration batch for fa_k"),
        ({"fa_k": [normal(1, 1, 2, 3, 4)], "fa_p": []}, "FAQuant has no fa_p"),
        ({"fa_k": [normal(1, 2, 3)]}, "expected .batch, heads, tokens, head_dim."),
        ({"fa_k": [np.full((1, 1, 2, 2), np.inf, np.float32)]}, "samples: inf"),
    ],
)
def test_bad_calibration_is_refused(seen: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SCHEME.quantize(seen, variant="v1")


@pytest.mark.parametrize(
    ("roles", "text"),
    [
        ({"Q": ("INT8", False), "K": ("INT8", False), "V": ("INT8", False)}, "INT8"),
        ({"Q": ("FP8", True), "K": ("FP8", True), "V": ("FP8", True)}, "FP8_DYNAMIC"),
        ({"K": ("INT8", False), "V": ("INT8", False)}, "KV_INT8"),
        ({"Q": ("FP8", True), "K": ("FP8", False), "V": ("FP8", False)}, "Q_FP8_DYNAMIC_KV_FP8"),
        (
            {"Q": ("INT8", False), "K": ("INT8", True), "V": ("INT8", False)},
            "QV_INT8_K_INT8_DYNAMIC",
        ),
        (dict.fromkeys("QKVP", ("MXFP4", True)), "QKVP_MXFP4_DYNAMIC"),
    ],
)
def test_quant_type_joins_roles_of_one_kind(roles: dict, text: str) -> None:
    assert quant_type(roles) == text
    value = vocabulary.layer_key("model.layers.0.self_attn.quant_type")
    assert value is not None
    assert re.fullmatch(value["pattern"], text)


def test_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="expected some of Q, K, V, P"):
        quant_type({"X": ("INT8", False)})


def test_attention_schemes_are_registered_once() -> None:
    assert set(schemes.attention_schemes()) == {"C8", "FAQuant"}
    with pytest.raises(ValueError, match="two attention schemes"):
        schemes.attention_base.register_attention(FAQuant)

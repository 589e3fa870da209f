"""Vectors of latent attention (MLA): one model in its plain and its absorbed form."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .attention import ULP
from .heads import attend, softmax_int8
from .model import Definition, f32

F16 = np.float16
_FA = ("FA-002", "FA-003")
_HEADS, _NOPE, _ROPE, _RANK, _VALUE = 2, 3, 2, 4, 3
_SCALE = 0.25  # of the softmax, from the plain head size; k_scale is another
_K_SCALE = 2.0**-4


def cases() -> Iterator[Definition]:
    random = np.random.RandomState(95)

    def whole(low: int, high: int, *shape: int) -> NDArray[np.float64]:
        return random.randint(low, high, shape).astype(np.float64)

    up_k, up_v = whole(-2, 3, _HEADS, _NOPE, _RANK), whole(-2, 3, _HEADS, _VALUE, _RANK)
    codes = whole(-48, 49, 5, _RANK)
    codes[0, 0], codes[1, 0] = -128, 127
    latent = codes * _K_SCALE  # (s, c), exact in float16
    k_rope, mask = whole(-3, 4, 5, _ROPE), np.where(np.tri(3, 5, 2) > 0, 0.0, -np.inf)
    for key, tokens, name in (("001", 1, "decode"), ("002", 3, "prefill")):
        q_nope, q_rope = whole(-1, 2, _HEADS, tokens, _NOPE), whole(-1, 2, _HEADS, tokens, _ROPE)
        masked = mask[-tokens:]
        yield from _one_model(key, name, (q_nope, q_rope), (up_k, up_v), (codes, latent, k_rope),
                              masked)  # fmt: skip


def _one_model(
    key: str,
    name: str,
    q: tuple[NDArray, NDArray],
    up: tuple[NDArray, NDArray],
    cached: tuple[NDArray, NDArray, NDArray],
    mask: NDArray,
) -> Iterator[Definition]:
    """The same heads three times: keys expanded, queries absorbed, queries absorbed and int8."""
    (q_nope, q_rope), (up_k, up_v), (codes, latent, k_rope) = q, up, cached
    absorbed = q_nope @ up_k  # (h, t, c): q·W_UK
    keys = np.stack([np.concatenate([latent @ u.T, k_rope], axis=1) for u in up_k])
    values = np.stack([latent @ u.T for u in up_v])
    queries = np.concatenate([q_nope, q_rope], axis=2)
    plain = queries @ keys.transpose(0, 2, 1)
    joined = absorbed @ latent.T + q_rope @ k_rope.T
    if not np.array_equal(plain, joined):
        raise AssertionError("absorbed queries and expanded keys have other scores")
    weights = [s * _SCALE + mask for s in joined]  # exact
    y_latent = np.stack([attend(s, latent) for s in weights])
    y_plain = np.stack([attend(s, v) for s, v in zip(weights, values, strict=True)])
    expanded = np.stack([y @ u.T for y, u in zip(y_latent, up_v, strict=True)])
    if np.abs(expanded - y_plain).max() > 1e-6:
        raise AssertionError("the output of the latent does not expand to that of the heads")
    masked = {"mask": mask.astype(np.float32)}
    half = {"q_rope": q_rope.astype(F16), "k_rope": k_rope.astype(F16)}
    together = f"{name} of one model: y of attention-float = y of mla-attention-latent · W_UVᵀ"
    number = f"{int(key) + 1:03}"
    yield Definition(
        "attention_float", number, f"{together}; keys and values expanded from the dequantized"
        " latent", {"q": queries.astype(F16), "k": keys.astype(F16), "v": values.astype(F16),
                    **masked},
        {"y": exact.cast(y_plain, exact.F16)}, {"softmax_scale": _SCALE},
        ("HeadIndex", "LatentSplit", "MaskInfinity"), (), "math.md 9.2", tolerance={"y": ULP},
    )  # fmt: skip
    stored: dict[str, NDArray] = {"k_nope": codes.astype(np.int8), "k_scale": f32([_K_SCALE])}
    yield Definition(
        "mla_attention_latent", key, f"{together}; absorbed queries, int8 latent of scale 2^-4,"
        " rotary part in float", {"q_nope": absorbed.astype(F16), **half, **stored, **masked},
        {"y": exact.cast(y_latent, exact.F16)}, {"softmax_scale": _SCALE},
        ("LatentSplit", "MaskInfinity", "HeadIndex"), _FA, "math.md 9.2", tolerance={"y": ULP},
    )  # fmt: skip
    yield _quantized_queries(key, name, absorbed, q_rope, cached, mask)


def _quantized_queries(
    key: str,
    name: str,
    absorbed: NDArray,
    q_rope: NDArray,
    cached: tuple[NDArray, NDArray, NDArray],
    mask: NDArray,
) -> Definition:
    codes, _, k_rope = cached
    q8 = absorbed.astype(np.int8)
    q_scale = f32(0.75, 0.1)[: q8.shape[0]]
    offline = f32(1 / 100, 1 / 127) if name == "prefill" else None
    y = []
    for h in range(q8.shape[0]):
        qk = exact.mul(q_scale[h], _K_SCALE)
        parts = exact.mul(exact.matmul(q8[h], codes.astype(np.int8)), qk)
        both = exact.cast(exact.add(parts, q_rope[h] @ k_rope.T), exact.F16)
        s = exact.add(exact.mul(both, _SCALE, exact.F16), mask, exact.F16).astype(np.float32)
        given = None if offline is None else float(offline[h])
        y.append(softmax_int8(s, codes.astype(np.int8), _K_SCALE, given, codes.shape[0]))
    inputs: dict[str, NDArray] = {
        "q_nope": q8, "q_rope": q_rope.astype(F16), "k_nope": codes.astype(np.int8),
        "k_rope": k_rope.astype(F16), "q_scale": q_scale, "k_scale": f32([_K_SCALE]),
        "mask": mask.astype(np.float32),
    }  # fmt: skip
    return Definition(
        "mla_attention_int8", key, f"{name}: int8 queries, scales of query and latent joined first,"
        " the rotary product added in float32;"
        f" {'offline' if offline is not None else 'online'} int8 probabilities",
        inputs | ({} if offline is None else {"p_scale": offline}),
        {"y": exact.cast(np.stack(y), exact.F16)}, {"softmax_scale": _SCALE},
        ("LatentSplit", "ProbabilityScale", "MaskInfinity", "HeadIndex"), _FA, "math.md 9.2",
        tolerance={"y": ULP},
    )  # fmt: skip

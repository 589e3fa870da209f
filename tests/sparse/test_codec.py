"""compress and decompress: lossless, deterministic, and the same by every route."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slimspec.sparse import (
    Compressed,
    StreamError,
    as_float16,
    compress,
    decompress,
    validate,
)

Int8 = NDArray[np.int8]

SHAPES = ("zeros", "few", "gaussian", "sparse", "runs", "uniform", "constant", "blocks")


def draw_weight(rng: np.random.Generator, largest: int) -> Int8:
    """Return an int8 matrix of random shape and distribution."""
    n, k = (int(2 ** rng.uniform(0, np.log2(largest))) for _ in range(2))
    kind = SHAPES[rng.integers(len(SHAPES))]
    if kind == "zeros":
        return np.zeros((n, k), np.int8)
    if kind == "constant":
        return np.full((n, k), rng.integers(-128, 128), np.int8)
    if kind == "few":
        return rng.choice(rng.integers(-128, 128, rng.integers(1, 40)), (n, k)).astype(np.int8)
    if kind == "uniform":
        return rng.integers(-128, 128, (n, k)).astype(np.int8)
    sigma = 2 ** rng.uniform(-1, 6)
    weight = np.clip(np.rint(rng.normal(0, sigma, (n, k))), -128, 127).astype(np.int8)
    if kind == "sparse":
        weight[rng.random((n, k)) < rng.random()] = rng.integers(-3, 3)
    if kind == "runs":
        flat = np.repeat(weight.reshape(-1), rng.integers(1, 80))
        weight = flat[: n * k].reshape(n, k)
    if kind == "blocks":
        weight[n // 2 :] = rng.integers(-128, 128, weight[n // 2 :].shape)
    return weight


def draw_options(rng: np.random.Generator) -> dict[str, str]:
    return {
        "mode": str(rng.choice(["low", "high"])),
        "dictionary_scope": str(rng.choice(["weight", "column", "tile"])),
        "tie_order": str(rng.choice(["libstdcxx", "value"])),
        "n_remainder": str(rng.choice(["overlap", "narrow"])),
    }


def same(one: Compressed, other: Compressed) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("weight", "index", "info")
    )


def round_trip(seed: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    weight, options = draw_weight(rng, largest), draw_options(rng)
    stream = compress(weight, **options, threads=1)
    decoded = decompress(stream.weight, stream.index, stream.info, threads=1)
    assert decoded.dtype == np.int8
    assert np.array_equal(decoded, weight)


@given(st.integers(0, 2**64 - 1))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_any_weight_survives(seed: int) -> None:
    round_trip(seed, 400)


@pytest.mark.slow
@given(st.integers(0, 2**64 - 1))
@settings(derandomize=True, deadline=None, max_examples=10_000)
def test_ten_thousand_weights_survive(seed: int) -> None:
    round_trip(seed, 400)


@given(st.integers(0, 2**64 - 1))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_kernels_write_and_read_the_bytes_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, options = draw_weight(rng, 160), draw_options(rng)
    stream = compress(weight, **options)
    assert same(stream, compress(weight, **options, by="definition"))
    decoded = decompress(stream.weight, stream.index, stream.info, by="definition")
    assert np.array_equal(decoded, weight)


@given(st.integers(0, 2**64 - 1))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_own_streams_have_no_defect_at_any_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, options = draw_weight(rng, 300), draw_options(rng)
    stream = compress(weight, **options)
    defects = validate(stream.weight, stream.index, stream.info, 4, weight)
    assert {defect.code for defect in defects} <= {"weight-not-smaller"}


@pytest.mark.parametrize("options", [{}, {"mode": "high", "dictionary_scope": "tile"}])
def test_threads_do_not_change_the_bytes(options: dict[str, str]) -> None:
    rng = np.random.default_rng(1)
    weight = np.rint(rng.normal(0, 4, (1100, 1500))).astype(np.int8)
    weight[900:] = rng.integers(-128, 128, weight[900:].shape)
    one = compress(weight, **options, threads=1)
    for threads in (2, 7):
        assert same(one, compress(weight, **options, threads=threads))
        decoded = decompress(one.weight, one.index, one.info, threads=threads)
        assert np.array_equal(decoded, weight)


def test_non_contiguous_input_gives_the_same_bytes() -> None:
    weight = np.rint(np.random.default_rng(2).normal(0, 4, (300, 400))).astype(np.int8)
    for view in (weight.T, weight[::2, 1::3], weight[::-1], np.asfortranarray(weight)):
        stream = compress(view)
        assert same(stream, compress(np.ascontiguousarray(view)))
        scattered = np.repeat(stream.weight, 2)[::2]
        assert np.array_equal(decompress(scattered, stream.index, stream.info), view)


def test_read_only_and_misaligned_tensors_decode() -> None:
    weight = np.rint(np.random.default_rng(3).normal(0, 4, (130, 70))).astype(np.int8)
    stream = compress(weight)
    odd = np.empty(stream.weight.size + 1, np.int8)[1:]
    odd[:] = stream.weight
    odd.flags.writeable = False
    assert np.array_equal(decompress(odd, stream.index, stream.info), weight)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 4097), (1025, 1), (129, 33), (16, 32)])
def test_thin_weights_survive(n: int, k: int) -> None:
    weight = np.random.default_rng(4).integers(-4, 5, (n, k)).astype(np.int8)
    for mode in ("low", "high"):
        stream = compress(weight, mode)
        assert stream.info.tolist() == [8, 8, k, n, 1]
        assert np.array_equal(decompress(stream.weight, stream.index, stream.info), weight)


def test_float16_weight_is_its_bytes() -> None:
    weight = np.random.default_rng(5).normal(0, 1, (70, 50)).astype(np.float16)
    weight[weight < 0] = 0
    stream = compress(weight, "high")
    assert stream.info.tolist() == [8, 8, 100, 70, 1]
    assert same(stream, compress(weight.view(np.int8), "high"))
    decoded = as_float16(decompress(stream.weight, stream.index, stream.info, "high"))
    assert decoded.dtype == np.float16
    assert np.array_equal(decoded.view(np.uint16), weight.view(np.uint16))


@pytest.mark.parametrize("shape", [(0, 8), (8, 0), (0, 0), (8,), (2, 2, 2)])
def test_empty_or_flat_weight_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected int8 \[n, k\] with n, k >= 1"):
        compress(np.zeros(shape, np.int8))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float16])
def test_other_dtypes_are_refused_in_low_mode(dtype: type) -> None:
    with pytest.raises(ValueError, match=r"expected int8 \[n, k\]"):
        compress(np.zeros((4, 4), dtype), "low")


@pytest.mark.parametrize(
    "option",
    [
        {"mode": "mid"},
        {"dictionary_scope": "layer"},
        {"tie_order": "stable"},
        {"n_remainder": "wide"},
        {"by": "magic"},
    ],
)
def test_unknown_option_is_refused(option: dict[str, str]) -> None:
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} is .* expected"):
        compress(np.zeros((200, 4), np.int8), **option)


def test_odd_byte_width_is_no_float16_weight() -> None:
    with pytest.raises(ValueError, match="even number"):
        as_float16(np.zeros((2, 3), np.int8))


def test_asking_for_the_other_mode_is_refused() -> None:
    stream = compress(np.zeros((16, 32), np.int8), "low")
    with pytest.raises(StreamError) as error:
        decompress(stream.weight, stream.index, stream.info, "high")
    assert error.value.defect.code == "mode"
    assert error.value.defect.tile == 0


def test_raw_weight_decodes_in_any_mode() -> None:
    weight = np.random.default_rng(6).integers(-128, 128, (32, 64)).astype(np.int8)
    stream = compress(weight)
    for mode in ("low", "high", None):
        assert np.array_equal(decompress(stream.weight, stream.index, stream.info, mode), weight)


SCRIPT = """
import hashlib, numpy as np
from slimspec.sparse import compress, decompress
rng = np.random.default_rng(8)
digest = hashlib.sha256()
for mode, n, k in (("low", 50, 70), ("high", 144, 40)):
    weight = np.rint(rng.normal(0, 6, (n, k))).astype(np.int8)
    weight[rng.random((n, k)) < 0.5] = 0
    weight[128:] = rng.integers(-128, 128, weight[128:].shape)
    stream = compress(weight, mode, n_remainder="narrow")
    assert (decompress(stream.weight, stream.index, stream.info) == weight).all()
    digest.update(stream.weight.tobytes() + stream.index.tobytes())
print(digest.hexdigest())
"""


def test_interpreted_kernels_give_the_bytes_of_the_compiled_ones() -> None:
    digests = []
    for disabled in ("0", "1"):
        env = {**os.environ, "NUMBA_DISABLE_JIT": disabled, "PYTHONWARNINGS": "error"}
        command = [sys.executable, "-c", SCRIPT]
        run = subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
        digests.append(run.stdout)
    assert digests[0] == digests[1]

"""Statistics of floats: the kernel, on a file or in memory, and the plain form give the same."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcheck.values import words as words_module
from slimcheck.values.blocks import BLOCK
from slimcheck.values.words import Words, word_lot, word_stats
from slimspec.numeric.jit import jit_enabled

pytestmark = pytest.mark.skipif(not jit_enabled(), reason="the kernel reads files when compiled")
DTYPES = {
    "F8_E4M3": np.uint8,
    "F16": np.uint16,
    "BF16": np.uint16,
    "F32": np.uint32,
    "U8": np.uint8,
}
NAN = {"F8_E4M3": 0xFF, "F16": 0xFC00, "BF16": 0x7FC0, "F32": 0x7F800001, "U8": 0xFF}


def same(a, b) -> bool:
    return (
        a.not_finite == b.not_finite
        and np.array_equal(a.sample, b.sample)
        and a.blocks.element(1) == b.blocks.element(1)
        and np.array_equal(a.blocks.constant, b.blocks.constant)
    )


def in_all_forms(values, words, file):
    """Of a file, of memory, and without kernels."""
    file.write_bytes(b"x" * words.begin + values.tobytes())
    with pytest.MonkeyPatch.context() as patch, file.open("rb") as stream:
        (read,) = word_lot(stream.fileno(), [words])
        patch.setattr(words_module, "jit_pays", lambda size: True)
        compiled = word_stats(values, words)
        patch.setattr(words_module, "jit_pays", lambda size: False)
        plain = word_stats(values, words)
    assert same(read, plain)
    assert same(compiled, plain)
    return plain


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sampled_from(list(DTYPES)), st.integers(0, 9000), st.integers(0, 2**32 - 1))
def test_forms_are_the_same(tmp_path_factory, tag, begin, seed):
    rng = np.random.default_rng(seed)
    dtype = DTYPES[tag]
    values = rng.integers(0, 0x70, rng.integers(1, 30000)).astype(dtype)
    hole = sorted(rng.integers(0, values.size, 2))
    values[slice(*hole)] = 5
    place = int(rng.integers(-1, values.size))
    if place >= 0:
        values[place] = NAN[tag]
    words = Words(begin, values.nbytes, tag)
    found = in_all_forms(values, words, tmp_path_factory.mktemp("words") / "data")
    assert found.not_finite == (-1 if tag == "U8" else place)


@pytest.mark.parametrize("tag", DTYPES)
@pytest.mark.parametrize("begin", [0, 96, 97])
def test_large_tensor_is_read_in_pieces(tmp_path, tag, begin):
    dtype = DTYPES[tag]
    values = np.random.default_rng(begin).integers(0, 0x70, 700_001).astype(dtype)
    for at in (0, 1 << 18, 690_000):
        values[max(at - 9000, 0) : at + 9000] = 3
    values[[600_000, 650_000]] = NAN[tag]
    found = in_all_forms(values, Words(begin, values.nbytes, tag), tmp_path / "data")
    assert found.not_finite == (-1 if tag == "U8" else 600_000)
    aligned = begin % values.itemsize == 0
    assert bool(found.blocks.constant.size) == aligned
    if aligned:
        first = found.blocks.element(int(found.blocks.constant[0]))
        assert (begin + first * values.itemsize) % BLOCK == 0


@pytest.mark.parametrize("tag", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_first_number_that_is_none_is_found(tmp_path, tag, value):
    dtype = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32}[tag]
    values = np.linspace(-6e4, 6e4, 3000).astype(dtype)
    words = Words(0, values.nbytes, tag)
    assert in_all_forms(values, words, tmp_path / "a").not_finite == -1
    values[[1234, 2999]] = value
    assert in_all_forms(values, words, tmp_path / "b").not_finite == 1234


def test_shorter_file_than_stated_has_no_statistics(tmp_path):
    file = tmp_path / "data"
    file.write_bytes(bytes(100))
    with file.open("rb") as stream:
        assert word_lot(stream.fileno(), [Words(90, 12, "F16")]) is None
        assert word_lot(stream.fileno(), [Words(90, 10, "F16")]) is not None


def test_tensors_of_several_dtypes_come_in_their_order(tmp_path):
    file = tmp_path / "data"
    file.write_bytes(bytes(range(200)))
    tensors = [Words(0, 8, "F16"), Words(8, 9, "U8"), Words(20, 4, "F16"), Words(24, 8, "F32")]
    with file.open("rb") as stream:
        found = word_lot(stream.fileno(), tensors)
    assert [stats.sample.tobytes()[0] for stats in found] == [0, 8, 20, 24]

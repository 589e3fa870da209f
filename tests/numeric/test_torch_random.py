"""Against numbers that torch prints after `torch.manual_seed` (its documentation and forums)."""

from __future__ import annotations

import numpy as np
import pytest

from slimspec.numeric.torch_random import TorchStream

NORMAL = {  # torch.manual_seed(seed); torch.randn(16)
    0: (-1.1258, -1.1524, -0.2506, -0.4339, 0.8487, 0.6920, -0.3160, -2.1152, 0.3223, -1.2633),
    42: (1.9269, 1.4873, 0.9007, -2.1055),
}


@pytest.mark.parametrize("seed", NORMAL)
def test_normal_numbers_are_those_of_torch(seed: int) -> None:
    found = TorchStream(seed).normal(16)
    assert found.dtype == np.float32
    assert found[: len(NORMAL[seed])].round(4).tolist() == pytest.approx(NORMAL[seed], abs=1e-6)


def test_uniform_numbers_are_those_of_torch() -> None:
    found = TorchStream(42).uniform(4)
    assert found.round(4).tolist() == pytest.approx([0.8823, 0.9150, 0.3829, 0.9593], abs=1e-6)


def test_rest_is_a_block_of_its_own_over_the_last_sixteen() -> None:
    whole, more = TorchStream(7).normal(32), TorchStream(7)
    found = more.normal(20)
    assert np.array_equal(found[:4], whole[:4])
    stream = TorchStream(7)
    stream.uniform(20)
    assert np.array_equal(found[4:], stream.normal(16))
    assert np.array_equal(more.uniform(3), stream.uniform(3))


def test_normal_numbers_have_mean_zero_and_variance_one() -> None:
    found = TorchStream(3).normal(1 << 16).astype(np.float64)
    assert abs(found.mean()) < 5 / 256  # five standard deviations of the mean
    assert abs(found.var() - 1) < 5 * 2**0.5 / 256


def test_few_normal_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 16"):
        TorchStream(0).normal(15)

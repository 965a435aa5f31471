"""The sampler's cumulated sums in triton's interpreter: right, and a row's are its own."""

import pytest
import torch

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from thirdeye.model.kernels.cumulate import BLOCK, cumulate


@pytest.mark.parametrize("size", [1, 97, BLOCK, 2 * BLOCK + 300])
def test_cumulated_sums(size: int) -> None:
    """Masses of all sizes, some of them 0; 5 rows or each alone: the same bits."""
    x = torch.randn(5, size).mul(4).exp() * (torch.rand(5, size) < 0.7)
    sums = cumulate(x)
    torch.testing.assert_close(sums, x.double().cumsum(-1).float(), rtol=1e-5, atol=1e-5)
    assert (sums[:, BLOCK::BLOCK] >= sums[:, BLOCK - 1 : -1 : BLOCK]).all()
    for i in range(5):
        assert torch.equal(cumulate(x[i : i + 1]), sums[i : i + 1])


def test_no_rows() -> None:
    assert cumulate(torch.empty(0, 8)).shape == (0, 8)

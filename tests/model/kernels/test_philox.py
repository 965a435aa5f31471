"""The draws' noise in triton's interpreter: the bits of its twin, and the published answers."""

import pytest
import torch

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from thirdeye.model.kernels.philox import BLOCK, uniform
from thirdeye.server.engine.sampling import philox as noise


@pytest.mark.parametrize("num_rows", [1, 5, BLOCK, 2 * BLOCK + 3])
def test_noise_is_that_of_the_twin(num_rows: int) -> None:
    """For seeds of all sizes and both signs, and for any position; no bit differs."""
    seeds = torch.randint(-(2**63), 2**63 - 1, (num_rows,))
    seeds[0] = -1
    positions = torch.randint(0, 2**31, (num_rows,))
    assert torch.equal(uniform(seeds, positions), noise.uniform(seeds, positions))


def test_known_answer() -> None:
    """The third vector of philox2x32-10 that its authors publish (Random123, `kat_vectors`)."""
    seed = torch.tensor([noise.as_int64(0x85A308D3 << 32 | 0x13198A2E)])
    bits = int(uniform(seed, torch.tensor([0x243F6A88])).item() * 2**24)
    assert bits == 0xDD7CE038 >> 8


def test_a_row_is_its_own() -> None:
    """Alone, in company, or out of a wider tensor's column."""
    table = torch.randint(-(2**63), 2**63 - 1, (7, 3))
    positions = torch.arange(7)
    together = uniform(table[:, 1], positions)
    for i in range(7):
        assert torch.equal(together[i : i + 1], uniform(table[i : i + 1, 1], positions[i : i + 1]))
    assert uniform(table[:0, 1], positions[:0]).shape == (0,)

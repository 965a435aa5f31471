"""A GPU's product of grouped rows, in triton's interpreter, against `F.linear` expert by expert."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.model.experts.layer import SPECS, finish, layer_of, tokens

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from thirdeye.model.kernels.products.grouped_matmul import BLOCK_M, group_rows, grouped_matmul
from thirdeye.model.parts.fused_experts import FusedExperts


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def chosen_of(num_tokens: int, num_experts: int, num_chosen: int) -> Tensor:
    return draw(num_tokens, num_experts, seed=7).topk(num_chosen, dim=-1).indices


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "num_chosen"), [(1, 5, 2), (9, 3, 3), (40, 4, 1), (2, 70, 3)]
)
def test_each_expert_by_itself(
    num_tokens: int, num_experts: int, num_chosen: int, has_bias: bool
) -> None:
    chosen = chosen_of(num_tokens, num_experts, num_chosen)
    x, weight = draw(num_tokens, 40), draw(num_experts, 70, 40)
    bias = draw(num_experts, 70) if has_bias else None
    groups = group_rows(chosen, num_experts)
    y = grouped_matmul(x[groups.tokens], weight, bias, groups)[groups.places]
    for row, expert in enumerate(chosen.flatten().tolist()):
        own = None if bias is None else bias[expert]
        expected = F.linear(x[row // num_chosen], weight[expert], own)
        torch.testing.assert_close(y[row], expected, atol=1e-4, rtol=1e-4)


def test_tiles_of_rows_that_are_unevenly_shared() -> None:
    """One expert has more than a tile, the next none, another the rest."""
    chosen = torch.tensor([2] * (BLOCK_M + 3) + [0] * 2)[:, None]
    groups = group_rows(chosen, 4)
    assert groups.starts.tolist() == [0, 2, 2, BLOCK_M + 5, BLOCK_M + 5]
    assert groups.first_tiles.tolist() == [0, 1, 1, 3]
    assert groups.tile_experts.tolist() == [0, 2, 2, *[4] * (len(groups.tile_experts) - 3)]
    assert groups.tokens[:2].tolist() == [BLOCK_M + 3, BLOCK_M + 4]


@pytest.mark.parametrize("name", ["softmax", "groups", "scaled inputs"])
def test_a_layer(name: str) -> None:
    fused, plain = finish(layer_of(SPECS[name], is_fused=True)), finish(layer_of(SPECS[name]))
    assert isinstance(fused, FusedExperts)
    x = tokens(7)
    together = fused(x)
    torch.testing.assert_close(together, plain(x), atol=1e-4, rtol=1e-4)
    for token in (0, 3, 6):
        alone = fused(x[token : token + 1])[0]
        torch.testing.assert_close(alone, together[token], atol=1e-6, rtol=1e-6)

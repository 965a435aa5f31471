"""The deterministic product in triton's interpreter: right, and each row's bits its own.

The interpreter runs the kernel's own cut: which products are summed in which order, tile by tile.
Its products take no bf16. What a compiler makes of a tile is for a GPU to prove.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from tests.draws import also_at_night, count, is_night
from tests.model.steps import Row, make_batch
from tests.model.tiny import GPT2, LLAMA, change, make_cache, random_model, unfinished_model
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.config import ModelConfig
from thirdeye.model.kernels.products.fixed_matmul import LOW, SPLIT, WIDE, FixedMatmul
from thirdeye.model.linear.fixed_tile import FixedTile
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.transformer import Transformer

ONE_LANE, MANY_LANES = FixedMatmul(0), FixedMatmul(10**6)
BLOCK_M, BLOCK_N = LOW.rows, LOW.columns
SHAPES = [(1, 1), (48, 32), (BLOCK_N + 5, 100), (3, SPLIT), (40, SPLIT + 70)]


def operands(
    rows: int, shape: tuple[int, int], dtype: torch.dtype, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    out, size = shape
    x, weight = torch.randn(rows, size, dtype=dtype), torch.randn(out, size, dtype=dtype)
    return x, weight / size**0.5, torch.randn(out, dtype=dtype) if bias else None


@pytest.mark.parametrize("multiply", [ONE_LANE, MANY_LANES], ids=["one lane", "lanes"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_product(
    multiply: FixedMatmul, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """Within a tile and over its edges, in one split and in two, with a bias and without."""
    tolerance = 1e-5 if dtype == torch.float32 else 2e-3
    for rows, bias in ((1, True), (BLOCK_M + 3, False)):
        x, weight, offset = operands(rows, shape, dtype, bias)
        expected = F.linear(x.float(), weight.float(), offset if offset is None else offset.float())
        ours = multiply(x, weight, offset)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.float(), expected, rtol=tolerance, atol=tolerance)


@also_at_night
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((48, 32), torch.float32),
        ((BLOCK_N + 5, 100), torch.float16),
        ((40, SPLIT + 70), torch.float16),
        ((3, 2 * SPLIT + 70), torch.float16),
    ],
)
def test_a_rows_bits_are_its_own(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """1 to 65 rows of more, at any place among them, with lanes or without: the same bits."""
    x, weight, bias = operands(count(BLOCK_M + 5, 2 * BLOCK_M + 5), shape, dtype, True)
    expected = ONE_LANE(x, weight, bias)
    for multiply in (ONE_LANE, MANY_LANES):
        for rows in (1, 2, BLOCK_M, BLOCK_M + 1) if is_night() else (1, BLOCK_M + 1):
            assert torch.equal(multiply(x[:rows], weight, bias), expected[:rows])
            assert torch.equal(multiply(x[-rows:], weight, bias), expected[-rows:])


@pytest.mark.parametrize("shape", [(WIDE.columns + 5, 100), (40, SPLIT + 70)])
def test_tiles_give_the_same_bits(shape: tuple[int, int]) -> None:
    """Many rows by the wide tile, some of them by the low one, with lanes and without."""
    x, weight, bias = operands(WIDE.rows + 3, shape, torch.float16, True)
    for multiply in (ONE_LANE, MANY_LANES):
        assert multiply.tile(len(x), shape[0], 2) is WIDE
        assert multiply.tile(BLOCK_M, shape[0], 2) is LOW
        many = multiply(x, weight, bias)
        for rows in (slice(0, BLOCK_M), slice(-5, None), slice(70, 71)):
            assert torch.equal(multiply(x[rows], weight, bias), many[rows])
    wide = F.linear(x.float(), weight.float(), bias.float() if bias is not None else None)
    torch.testing.assert_close(many.float(), wide, rtol=2e-3, atol=2e-3)


def test_no_rows() -> None:
    """A step in the middle of a prompt asks the head for nothing."""
    assert ONE_LANE(torch.empty(0, 8), torch.ones(3, 8), None).shape == (0, 3)


def test_which_tile() -> None:
    """The wide one for chunks of 16-bit numbers; not where tiles would be too few because of it."""
    tile = FixedMatmul(132).tile
    assert tile(127, 28672, 2) is LOW
    assert tile(128, 28672, 2) is LOW  # 112 wide tiles for 132 multiprocessors, 448 low ones
    assert tile(256, 28672, 2) is WIDE
    assert tile(256, 4096, 2) is WIDE  # lanes in any case
    assert tile(2048, 4096, 2) is WIDE
    assert tile(2048, 4096, 4) is LOW


def test_lanes() -> None:
    """One a split while there are fewer tiles than multiprocessors."""
    multiply = FixedMatmul(132)
    assert multiply.num_lanes(num_tiles=32, in_features=14336) == 14
    assert multiply.num_lanes(num_tiles=132, in_features=14336) == 1
    assert multiply.num_lanes(num_tiles=32, in_features=SPLIT) == 1


def deterministic_model(config: ModelConfig) -> Transformer:
    """As on a GPU with `--deterministic`, in the interpreter."""
    backend = TritonAttention(num_multiprocessors=8, is_deterministic=True)
    model = unfinished_model(config, backend, is_fused=True, is_deterministic=True)
    layers = [m for m in model.modules() if isinstance(m, Linear | TiedLinear)]
    assert {type(layer.method) for layer in layers} == {FixedTile}
    model.finish()
    return model


@also_at_night
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_whole_model(name: str) -> None:
    """Logits of a sequence are equal bit for bit, as a whole or in chunks, alone or in company,
    decoded or as part of a prompt; and to 1e-4 those of the plain model."""
    config = {"llama": change(LLAMA, qk_norm=True), "gpt2": GPT2}[name]
    config = change(config, num_hidden_layers=count(1, 2))
    model, tokens = deterministic_model(config), list(range(7, 17))

    def run(model: Transformer, cuts: list[int], company: int) -> Tensor:
        """Logits at every position, computed up to each cut in turn."""
        cache, logits, past = make_cache(config), [], 0
        for cut in cuts:
            own = Row(tokens[past:cut], past, [2, 0, 3])
            others = [Row(range(30 + i, 34 + i), 0, [6 + i]) for i in range(company)]
            step = make_batch([*others, own], 4, "all")
            logits.append(model(step, cache)[-len(own.token_ids) :])
            past = cut
        return torch.cat(logits)

    whole = run(model, [10], 0)
    assert torch.equal(run(model, [10], 2), whole)
    assert torch.equal(run(model, [4, 9, 10], 0), whole)
    assert torch.equal(run(model, [7, 8, 10], 1), whole)
    plain = run(random_model(config), [10], 0)
    torch.testing.assert_close(whole, plain, rtol=1e-4, atol=1e-4)

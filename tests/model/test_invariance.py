"""A token's bits do not know how many rows there are, which is theirs, or who else is there.

`docs/numerics.md` says what was measured; these are the same measurements, held.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.draws import also_at_night, is_night
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, GPT2, LATENT, LLAMA, change, make_cache, random_model
from tests.processor import HAS_PACKED_BF16, NO_PACKED_BF16
from thirdeye.model.config import Activation, ModelConfig
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.method import LinearMethod
from thirdeye.model.linear.row_invariant import RowInvariant
from thirdeye.model.native.activate import KINDS
from thirdeye.model.parts.activations import activation_function, gated_function
from thirdeye.model.placement import Placement

LONG = change(LLAMA, max_position_embeddings=160)
LATENTS = change(LATENT, max_position_embeddings=160)
GPT2_WIDE = change(GPT2, max_position_embeddings=160, intermediate_size=1100)
FP32 = Placement(torch.float32, CPU)
ROWS = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100]
OF_ONE = [kind for kind in KINDS if kind is not Activation.CLAMPED_SWIGLU]  # that one is of a pair
SHAPES = [(8, 24), (20, 7), (48, 32), (576, 960), (576, 3072), (1024, 64), (1025, 64), (1536, 576)]


DTYPES = [
    torch.float32,
    pytest.param(
        torch.bfloat16, marks=pytest.mark.skipif(not HAS_PACKED_BF16, reason=NO_PACKED_BF16)
    ),
]


def random_linear(shape: tuple[int, int], method: LinearMethod, dtype: torch.dtype) -> Linear:
    layer = Linear(*shape, True, Placement(dtype, CPU), method=method)
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    layer.finish()
    return layer


def heights_that_differ(layer: Callable[[Tensor], Tensor], x: Tensor) -> list[int]:
    """Numbers of rows for which some row, taken from some place, has other bits than in all."""
    together = layer(x)
    return [
        rows
        for rows in ROWS
        for start in (0, 1, len(x) - rows)
        if not torch.equal(layer(x[start : start + rows]), together[start : start + rows])
    ]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_a_product(shape: tuple[int, int], dtype: torch.dtype, threads: int) -> None:
    """Model shapes and odd ones: every number of rows, first, middle and last of a batch."""
    torch.set_num_threads(threads)
    x = torch.randn(101, shape[0], generator=torch.Generator().manual_seed(1)).to(dtype)
    assert heights_that_differ(random_linear(shape, RowInvariant(dtype), dtype), x) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_row_at_all(dtype: torch.dtype) -> None:
    """Nobody is sampled behind a chunk of a long prompt: the head is given nothing."""
    nothing = torch.empty(0, 64, dtype=dtype)
    assert random_linear((64, 96), RowInvariant(dtype), dtype)(nothing).shape == (0, 96)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [17, 97, 1100])
@pytest.mark.parametrize("activation", OF_ONE)
def test_rows_of_an_activation(activation: Activation, width: int, threads: int) -> None:
    """Widths that no vector register divides: the last elements of a stretch are as the others."""
    torch.set_num_threads(threads)
    function = activation_function(activation, FP32)
    x = torch.randn(101, width, generator=torch.Generator().manual_seed(1)) * 2
    assert heights_that_differ(function, x) == []


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [17, 97, 1100])
@pytest.mark.parametrize("activation", list(KINDS))
def test_rows_of_a_gated_activation(activation: Activation, width: int, threads: int) -> None:
    """Of a gate and its partner, the two halves of one product's rows."""
    torch.set_num_threads(threads)
    function = gated_function(activation, FP32)
    x = torch.randn(101, 2 * width, generator=torch.Generator().manual_seed(1)) * 4
    assert heights_that_differ(lambda rows: function(*rows.chunk(2, -1)), x) == []


CHUNKS = {5: (1, 2, 3, 5), 128: (3,), 129: (2,), 150: (1, 5)}  # at a push


@also_at_night
@pytest.mark.parametrize("length", CHUNKS)
@pytest.mark.parametrize("config", [LONG, GPT2_WIDE, LATENTS], ids=["llama", "gpt2-wide", "latent"])
def test_all_at_once_or_one_by_one(config: ModelConfig, length: int) -> None:
    """Logits of every position: a whole prompt, several draft tokens verified, single tokens."""
    model = random_model(config)
    tokens = [7 * i % 97 for i in range(length)]
    whole = model(make_batch([Row(tokens, 0, range(20))], 8, "all"), make_cache(config, 20, 8))
    for chunk in CHUNKS[5] if is_night() else CHUNKS[length]:
        cache, logits = make_cache(config, 20, 8), []
        for start in range(0, length, chunk):
            row = Row(tokens[start : start + chunk], start, range(20))
            logits.append(model(make_batch([row], 8, "all"), cache))
        assert torch.equal(torch.cat(logits), whole)

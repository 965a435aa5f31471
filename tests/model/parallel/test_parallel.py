"""A model over several ranks is the same model: logits, hidden states and patterns, fp32, gloo.

Ranks are threads here, each with a process group of its own; real processes are in
`tests/engine/distributed/test_ranks.py`. The twin is the model in one piece, filled with the same
tensors.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from tests.model.steps import Row, make_batch
from tests.model.tiny import (
    CPU,
    GPT2,
    LATENT,
    LLAMA,
    MIXED,
    change,
    make_cache,
    random_model,
    unfinished_model,
)
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.config import ModelConfig
from thirdeye.model.inspection.probe import logit_lens, trace_layers
from thirdeye.model.native.library import Library
from thirdeye.model.parallel.ranks import Meeting, join
from thirdeye.model.parallel.shares import ALONE, Ranks, possible_ranks, rank_config
from thirdeye.model.state.kv_cache import KVCache, kv_bytes_per_block
from thirdeye.model.transformer import Transformer

T = TypeVar("T")
WIDE = change(LLAMA, num_heads=8, num_kv_heads=4)
MODELS = {
    "llama": WIDE,
    "llama-tied-mha": change(LLAMA, num_kv_heads=4, tie_word_embeddings=True),
    "qwen3": change(WIDE, qk_norm=True, qkv_bias=True),
    "gpt2": GPT2,
    "mixed": change(MIXED, num_kv_heads=4),
    "latent": LATENT,
}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def on_ranks(tmp_path: Path) -> Callable[[int, Callable[[Ranks], T]], list[T]]:
    """Calls a function on so many ranks at once; their results in order of rank."""
    numbers = count()

    def call(size: int, function: Callable[[Ranks], T]) -> list[T]:
        path = tmp_path / str(next(numbers))

        def one(rank: int) -> T:
            with torch.inference_mode():
                meeting = Meeting(path, rank, size, timeout=60.0)
                return function(join(meeting, CPU, is_deterministic=False))

        with ThreadPoolExecutor(size) as pool:
            return list(pool.map(one, range(size)))

    return call


def share_of(
    model_config: ModelConfig,
    ranks: Ranks,
    quantize: str = "none",
    native: Library | None = None,
) -> Transformer:
    """One rank's share of `random_model(model_config)`."""
    whole = unfinished_model(model_config)
    model = Transformer(
        model_config,
        NativeAttention(native) if native else BlockedAttention(),
        dtype=torch.float32,
        device=CPU,
        quantize=quantize,
        native=native,
        ranks=ranks,
    )
    for name, parameter in whole.named_parameters():
        model.load(name, None, parameter.detach())
    model.finish()
    return model


def run(model: Transformer) -> tuple[Tensor, Tensor]:
    """A prompt in two chunks beside another sequence, then one decoded token."""
    own = rank_config(model.config, model.ranks.size)
    cache, size = make_cache(own), 4
    steps = [
        [Row(range(5, 12), 0, [3, 1]), Row(range(40, 49), 0, [2, 5, 6])],
        [Row(range(12, 20), 7, [3, 1, 7, 8]), Row([50], 9, [2, 5, 6])],
    ]
    with torch.inference_mode():
        results = [model.with_hidden(make_batch(rows, size, "all"), cache) for rows in steps]
    logits, hidden = zip(*results, strict=True)
    return torch.cat(logits), torch.cat(hidden)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_one_rank(on_ranks, name: str, size: int) -> None:
    """To 1e-5 in fp32, and every rank has all of them, bit for bit the same. 97 tokens are dealt
    out unevenly."""
    torch.set_num_threads(1)
    expected = run(random_model(MODELS[name]))
    results = on_ranks(size, lambda ranks: run(share_of(MODELS[name], ranks)))
    for result in results:
        for ours, theirs, first in zip(result, expected, results[0], strict=True):
            assert ours.shape == theirs.shape
            torch.testing.assert_close(ours, theirs, **CLOSE)
            assert torch.equal(ours, first)


@pytest.mark.parametrize("size", [2, 4])
def test_a_rows_bits_do_not_depend_on_its_company(on_ranks, size: int) -> None:
    """Sums over ranks keep the promise of the CPU: 1 to 70 rows, the first is always the same."""
    torch.set_num_threads(1)
    tokens = torch.randint(97, (70,), generator=torch.Generator().manual_seed(0)).tolist()

    def firsts(ranks: Ranks) -> list[Tensor]:
        model = share_of(WIDE, ranks)
        rows = [Row([token], 0, [i]) for i, token in enumerate(tokens)]
        cache = make_cache(rank_config(WIDE, size), num_blocks=70)
        return [model(make_batch(rows[:n], 4, "last"), cache)[0] for n in (1, 2, 3, 4, 17, 33, 70)]

    for rank in on_ranks(size, firsts):
        assert all(torch.equal(row, rank[0]) for row in rank)


def test_the_probe_sees_all_heads(on_ranks) -> None:
    """A look inside on two ranks: every head's pattern, in the heads' order, on each of them."""
    torch.set_num_threads(1)
    ids = torch.arange(3, 20)

    def look(model: Transformer) -> list[Tensor]:
        with torch.inference_mode():
            traces = [trace for trace in trace_layers(model, ids, 6) if trace is not None]
            lens = logit_lens(model, traces[-1].resid_post)
        return [*(t.pattern for t in traces), *(t.resid_post for t in traces), lens]

    expected = look(random_model(MODELS["mixed"]))
    for result in on_ranks(2, lambda ranks: look(share_of(MODELS["mixed"], ranks))):
        for ours, theirs in zip(result, expected, strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)


def test_a_rank_holds_its_share_alone(on_ranks) -> None:
    """Half the layers' weights and half a block's bytes on each of two ranks."""

    def weigh(ranks: Ranks) -> tuple[int, int]:
        model = Transformer(WIDE, BlockedAttention(), dtype=torch.float32, device=CPU, ranks=ranks)
        dealt = ("qkv", "output", "gate_up", "down")
        return (
            sum(p.numel() for n, p in model.named_parameters() if n.split(".")[-2] in dealt),
            model.get_parameter("lm_head.weight").shape[0],
        )

    (whole, tokens), halves = weigh(ALONE), on_ranks(2, weigh)
    assert [share for share, _ in halves] == [whole / 2] * 2
    assert [rows for _, rows in halves] == [49, 48]
    assert tokens == 97
    bytes_of = [kv_bytes_per_block(rank_config(WIDE, n), 16, torch.float32) for n in (1, 2)]
    assert bytes_of[0] == 2 * bytes_of[1]
    cache = KVCache(rank_config(WIDE, 2), 3, 16, torch.float32, CPU)
    assert cache.keys[0].shape[2] == 2


def test_parts_and_wholes_fill_alike(on_ranks) -> None:
    """GPT-2 keeps qkv in one tensor, Llama in three: each rank gets the same rows of both."""
    whole = unfinished_model(WIDE)
    weight = whole.get_parameter("blocks.0.attention.qkv.weight").detach()
    q, k, v = weight.split([64, 32, 32])

    def fill(ranks: Ranks) -> tuple[Tensor, Tensor]:
        filled = []
        for parts in ({None: weight}, {"q": q, "k": k, "v": v}):
            model = Transformer(
                WIDE, BlockedAttention(), dtype=torch.float32, device=CPU, ranks=ranks
            )
            for part, tensor in parts.items():
                model.load("blocks.0.attention.qkv.weight", part, tensor)
            filled.append(model.get_parameter("blocks.0.attention.qkv.weight").detach())
        return filled[0], filled[1]

    for rank, (one, three) in enumerate(on_ranks(2, fill)):
        assert torch.equal(one, three)
        assert torch.equal(one[:32], q[32 * rank : 32 * rank + 32])
        assert torch.equal(one[48:], v[16 * rank : 16 * rank + 16])


def test_a_tensor_that_does_not_fit_is_refused(on_ranks) -> None:
    def fill(ranks: Ranks) -> str:
        model = Transformer(WIDE, BlockedAttention(), dtype=torch.float32, device=CPU, ranks=ranks)
        with pytest.raises(ValueError, match="must have shape") as error:
            model.load("blocks.0.attention.qkv.weight", None, torch.zeros(127, 32))
        return str(error.value)

    assert len(on_ranks(2, fill)) == 2


@pytest.mark.parametrize(
    ("changes", "num_ranks", "message"),
    [
        (
            {"num_kv_heads": 2},
            4,
            "'--tensor-parallel' must divide this model's 'num_kv_heads' (2), got 4: use 1 or 2.",
        ),
        (
            {"num_heads": 3, "num_kv_heads": 1},
            2,
            "'--tensor-parallel' must divide this model's 'num_heads' (3), got 2: use 1.",
        ),
        (
            {"intermediate_size": 49},
            2,
            "'--tensor-parallel' must divide this model's 'intermediate_size' (49), got 2: use 1.",
        ),
        (
            {"vocab_size": 3},
            2,
            "'--tensor-parallel' 2 needs 4 tokens in the vocabulary, got 3: use fewer ranks.",
        ),
    ],
)
def test_what_cannot_be_dealt_out(changes, num_ranks: int, message: str) -> None:
    """Field, limit, way out."""
    with pytest.raises(ValueError, match="tensor-parallel") as error:
        rank_config(change(LLAMA, **changes), num_ranks)
    assert str(error.value) == message


def test_possible_ranks() -> None:
    assert possible_ranks(change(WIDE, intermediate_size=48)) == [1, 2, 4]

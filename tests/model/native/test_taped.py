"""Steps from tape have the bits of steps without: any order of shapes, any content, any cache."""

import random

import pytest
import torch
from torch import Tensor

from tests.model.steps import Row, make_batch
from tests.model.tiny import LLAMA, change, make_cache, random_model
from thirdeye.model import taped
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import Activation, ModelConfig
from thirdeye.model.native.library import Library
from thirdeye.model.native.tape import Tape
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.taped import TapedBlocks
from thirdeye.model.transformer import Transformer

WIDE = change(LLAMA, max_position_embeddings=512, head_dim=16, num_heads=4)
BLOCK_SIZE, BLOCKS_EACH = 16, 20


def models(native: Library, config: ModelConfig) -> tuple[Transformer, Transformer]:
    """(with tapes, without), of the same weights and kernels."""
    ours, plain = (random_model(config, quantize="int8", native=native) for _ in range(2))
    assert isinstance(ours._through_blocks, TapedBlocks)
    plain._through_blocks = plain._one_by_one
    return ours, plain


def random_step(rng: random.Random) -> ForwardBatch:
    """One to four sequences with one to five tokens each, somewhere in their lives."""
    rows = []
    for i in range(rng.choice([1, 1, 2, 4])):
        tokens = [rng.randrange(97) for _ in range(rng.choice([1, 1, 1, 5]))]
        blocks = range(i * BLOCKS_EACH, (i + 1) * BLOCKS_EACH)
        rows.append(Row(tokens, rng.choice([0, 15, 16, 63, 64, 100, 300]), blocks))
    return make_batch(rows, BLOCK_SIZE, "all")


def cache(config: ModelConfig) -> KVCache:
    made = make_cache(config, 4 * BLOCKS_EACH, BLOCK_SIZE)
    for layer in range(config.num_hidden_layers):
        for tensor in made.layer(layer):
            tensor.normal_(generator=torch.Generator().manual_seed(layer))
    return made


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("config", [WIDE, change(WIDE, qk_norm=True, qkv_bias=True)])
def test_any_steps(native: Library, config: ModelConfig, threads: int) -> None:
    torch.set_num_threads(threads)
    ours, plain = models(native, config)
    rng = random.Random(0)
    our_cache, plain_cache = cache(config), cache(config)
    for _ in range(150):
        step = random_step(rng)
        assert torch.equal(ours(step, our_cache), plain(step, plain_cache))
    assert num_recorded(ours) > 5
    for layer in range(config.num_hidden_layers):
        pairs = zip(our_cache.layer(layer), plain_cache.layer(layer), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def num_recorded(model: Transformer) -> int:
    assert isinstance(model._through_blocks, TapedBlocks)
    return sum(tape is not None for tape in model._through_blocks._recordings.values())


def logits(model: Transformer, kv_cache: KVCache, token: int = 5) -> Tensor:
    return model(make_batch([Row([token], 20, range(BLOCKS_EACH))], BLOCK_SIZE), kv_cache).clone()


def test_the_second_step_of_a_shape_is_recorded(native: Library) -> None:
    """The first may be the only one."""
    model, plain = models(native, WIDE)
    kv_cache = cache(WIDE)
    for recorded in (0, 1, 1, 1):
        assert torch.equal(logits(model, kv_cache), logits(plain, cache(WIDE)))
        assert num_recorded(model) == recorded


def test_another_cache_is_another_tape(native: Library) -> None:
    """Addresses of the old one must not be written to."""
    model, plain = models(native, WIDE)
    old, new = cache(WIDE), cache(WIDE)
    for _ in range(3):
        logits(model, old)
    before = [tensor.clone() for tensor in old.layer(1)]
    for token in (7, 8, 9):
        assert torch.equal(logits(model, new, token), logits(plain, cache(WIDE), token))
    assert all(torch.equal(a, b) for a, b in zip(before, old.layer(1), strict=True))


def test_other_threads_are_another_tape(native: Library) -> None:
    """Scratch memory is per thread."""
    model, plain = models(native, WIDE)
    kv_cache = cache(WIDE)
    for threads in (1, 1, 1, 3, 3, 3, 1):
        torch.set_num_threads(threads)
        assert torch.equal(logits(model, kv_cache), logits(plain, cache(WIDE)))


def test_tapes_are_bounded(native: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taped, "MAX_TAPES", 2)
    model, _ = models(native, WIDE)
    kv_cache = cache(WIDE)
    for _ in range(2):
        for count in (1, 2, 3):
            row = Row([1] * count, 0, range(BLOCKS_EACH))
            model(make_batch([row], BLOCK_SIZE), kv_cache)
        assert isinstance(model._through_blocks, TapedBlocks)
        assert len(model._through_blocks._recordings) == 2


def test_a_model_with_a_part_of_torchs_runs_without(native: Library) -> None:
    """GELU in the gated MLP has no kernel of ours: found out once, and never tried again."""
    config = change(WIDE, activation=Activation.GELU)
    model, plain = models(native, config)
    kv_cache = cache(config)
    for _ in range(3):
        assert torch.equal(logits(model, kv_cache), logits(plain, cache(config)))
    assert isinstance(model._through_blocks, TapedBlocks)
    assert not model._through_blocks._is_recordable
    assert num_recorded(model) == 0


def test_long_steps_are_not_recorded(native: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tape, "__init__", lambda *_: pytest.fail("recorded"))
    model, _ = models(native, WIDE)
    kv_cache = cache(WIDE)
    for _ in range(3):
        row = Row([1] * (taped.MAX_TOKENS + 1), 0, range(BLOCKS_EACH))
        model(make_batch([row], BLOCK_SIZE), kv_cache)


def test_plain_models_have_no_tape(native: Library) -> None:
    """Without our kernels there is nothing to record, in fp32 nothing that could be."""
    for model in (random_model(WIDE), random_model(WIDE, native=native)):
        assert not isinstance(model._through_blocks, TapedBlocks)

"""Cached, chunked and batched forwards against the oracle that recomputes everything."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.model.steps import Row, make_batch
from tests.model.tiny import GPT2, LLAMA, MIXED, change, make_cache, random_model, unfinished_model
from tests.oracles import generate as oracle
from thirdeye.model.config import ModelConfig
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer

PROMPT = [5, 60, 3, 3, 71, 8, 96, 0, 14, 22, 9]
CONFIGS = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mixed": MIXED,
    "llama-tied-mqa": change(LLAMA, num_kv_heads=1, tie_word_embeddings=True),
}
BLOCK_SIZE = 4


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return CONFIGS[request.param]


def cached_generate(
    model: Transformer, cache: KVCache, prompt: list[int], num_tokens: int, chunk: int
) -> list[int]:
    """Prompt in chunks, then token by token, through blocks in no order."""
    blocks = [9, 2, 14, 5, 1, 11, 3, 12]
    token_ids, computed = list(prompt), 0
    while len(token_ids) < len(prompt) + num_tokens:
        step = token_ids[computed : computed + chunk]
        logits = model(make_batch([Row(step, computed, blocks)], BLOCK_SIZE), cache)
        computed += len(step)
        if computed == len(token_ids):
            token_ids.append(int(logits[0].argmax()))
    return token_ids[len(prompt) :]


@pytest.mark.parametrize("chunk", [1, 7, len(PROMPT)])
def test_cached_generation_equals_uncached(config: ModelConfig, chunk: int) -> None:
    """The KV cache and chunked prefill change the speed, never a token."""
    model = random_model(config)
    expected = oracle.generate(model, PROMPT, 12)
    assert len(set(expected)) > 3  # the model says something, else this proves little
    assert cached_generate(model, make_cache(config), PROMPT, 12, chunk) == expected


def test_every_logit_equals_the_oracles(config: ModelConfig) -> None:
    """All positions of a prompt, not only its likeliest next token."""
    model = random_model(config)
    batch = make_batch([Row(PROMPT, 0, [4, 7, 1])], BLOCK_SIZE, logits="all")
    torch.testing.assert_close(
        model(batch, make_cache(config)), oracle.logits(model, PROMPT), atol=3e-5, rtol=1e-5
    )


def test_mixed_batch_equals_each_alone(config: ModelConfig) -> None:
    """A prompt, a chunk after a past and a single token share a step and get their own answers."""
    model, cache = random_model(config), make_cache(config)
    first, second, third = PROMPT, PROMPT[::-1], [7, 7, 7, 40, 2]
    blocks = [[8, 3, 12], [0, 15, 6], [13, 1]]
    model(make_batch([Row(second[:6], 0, blocks[1]), Row(third[:4], 0, blocks[2])], 4), cache)
    rows = [Row(first, 0, blocks[0]), Row(second[6:], 6, blocks[1]), Row(third[4:], 4, blocks[2])]
    logits = model(make_batch(rows, BLOCK_SIZE), cache)
    for row, tokens in zip(logits, (first, second, third), strict=True):
        expected = oracle.logits(model, tokens)[-1]
        torch.testing.assert_close(row, expected, atol=3e-5, rtol=1e-5)


TOKENS = st.lists(st.integers(0, 96), min_size=1, max_size=16)


@given(prompts=st.lists(TOKENS, min_size=1, max_size=4), data=st.data())
@draws(10, 30)
def test_any_schedule_gives_the_same_logits(prompts: list[list[int]], data: st.DataObject) -> None:
    """However steps cut and mix the sequences, each ends with the logits it has alone."""
    model, cache = random_model(LLAMA), make_cache(LLAMA)
    blocks = [[7, 13, 0, 10], [3, 4, 15, 1], [9, 2, 8, 14], [5, 12, 6, 11]]
    computed = [0] * len(prompts)
    while pending := [i for i, prompt in enumerate(prompts) if computed[i] < len(prompt)]:
        chosen = data.draw(st.lists(st.sampled_from(pending), min_size=1, unique=True))
        rows = []
        for i in chosen:
            stop = data.draw(st.integers(computed[i] + 1, len(prompts[i])))
            rows.append(Row(prompts[i][computed[i] : stop], computed[i], blocks[i]))
            computed[i] = stop
        for i, logits in zip(chosen, model(make_batch(rows, BLOCK_SIZE), cache), strict=True):
            expected = oracle.logits(model, prompts[i][: computed[i]])[-1]
            torch.testing.assert_close(logits, expected, atol=5e-5, rtol=1e-5)


def test_no_row_reads_what_is_not_its_own(config: ModelConfig) -> None:
    """Blocks of nobody, and slots a sequence has not reached, may hold anything: here NaN."""
    model, cache = random_model(config), make_cache(config)
    for tensor in cache.keys + cache.values:
        tensor.fill_(torch.nan)
    assert cached_generate(model, cache, PROMPT, 12, 7) == oracle.generate(model, PROMPT, 12)


def test_writes_touch_only_their_slots(config: ModelConfig) -> None:
    """A step that wrote outside its slot mapping would corrupt another request's prefix."""
    model, cache = random_model(config), make_cache(config)
    batch = make_batch([Row(PROMPT[:6], 0, [9, 2])], BLOCK_SIZE)
    model(batch, cache)
    written = torch.zeros(16 * BLOCK_SIZE, dtype=torch.bool)
    written[batch.slot_mapping] = True
    for tensor in cache.keys + cache.values:
        touched = tensor.flatten(0, 1).ne(0).any(dim=(1, 2))
        assert torch.equal(touched, written)


def test_step_without_logits_fills_the_cache(config: ModelConfig) -> None:
    """S = 0: a chunk of a prompt that is not its last wants no logits."""
    model, cache = random_model(config), make_cache(config)
    logits = model(make_batch([Row(PROMPT, 0, [4, 7, 1])], BLOCK_SIZE, logits="none"), cache)
    assert logits.shape == (0, config.vocab_size)
    assert logits.dtype == torch.float32
    assert all(keys[4].abs().sum() > 0 for keys in cache.keys)


def test_bfloat16_model_gives_float32_logits() -> None:
    """The sampler works in fp32 whatever the model's dtype."""
    cpu = torch.device("cpu")
    wide = unfinished_model(LLAMA)
    model = Transformer(LLAMA, wide.backend, dtype=torch.bfloat16, device=cpu)
    for name, parameter in wide.named_parameters():
        model.load(name, None, parameter)
    model.finish()
    cache = KVCache(LLAMA, 4, BLOCK_SIZE, torch.bfloat16, cpu)
    logits = model(make_batch([Row(PROMPT, 0, [3, 1, 2])], BLOCK_SIZE, logits="all"), cache)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, oracle.logits(model, PROMPT), atol=0.3, rtol=0.1)

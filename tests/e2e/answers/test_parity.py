"""Checkpoint in, logits out: the whole way below the engine, against `transformers`."""

from functools import lru_cache
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from tests.oracles.real_model import load_reference
from tests.tiny import VOCAB_SIZE, tiny_gpt2, tiny_llama
from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.native.library import Library
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.load import load_weights

CPU = torch.device("cpu")


def load(path: Path, attention: str = "auto", native: Library | None = None) -> Transformer:
    checkpoint = open_checkpoint(path)
    backend = choose_attention(attention, CPU, native)
    model = Transformer(checkpoint.config, backend, dtype=torch.float32, device=CPU, native=native)
    load_weights(checkpoint, model)
    model.finish()
    return model


@lru_cache(maxsize=1)
def load_exact(path: Path) -> Transformer:
    """The default model in fp32, for reading only: as long to load as what is asked of it."""
    return load(path)


@torch.inference_mode()
def logits(model: Transformer, token_ids: list[int], chunk: int = 10**6) -> torch.Tensor:
    """Next-token logits after every token of one sequence, fed in chunks -> [T, vocab_size]."""
    blocks = -(-len(token_ids) // 16)
    cache = KVCache(model.config, blocks + 1, 16, torch.float32, CPU)
    table = torch.arange(blocks, 0, -1, dtype=torch.int32)  # backwards, and never block 0
    rows = []
    for start in range(0, len(token_ids), chunk):
        ids = token_ids[start : start + chunk]
        positions = torch.arange(start, start + len(ids))
        batch = ForwardBatch(
            input_ids=torch.tensor(ids),
            positions=positions,
            slot_mapping=table[positions // 16].long() * 16 + positions % 16,
            query_start_loc=torch.tensor([0, len(ids)], dtype=torch.int32),
            seq_lens=torch.tensor([start + len(ids)], dtype=torch.int32),
            block_table=table[None],
            logits_indices=torch.arange(len(ids)),
        )
        rows.append(model(batch, cache).clone())  # the next step may write where these are
    return torch.cat(rows)


@torch.no_grad()
def expected(model: PreTrainedModel, token_ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([token_ids])).logits[0].float()


@pytest.fixture(scope="module", params=[tiny_gpt2, tiny_llama])
def tiny(request, tmp_path_factory):
    """(checkpoint, token ids, `transformers`' logits)."""
    path = tmp_path_factory.mktemp("tiny")
    theirs = request.param(path)
    generator = torch.Generator().manual_seed(1)
    token_ids = torch.randint(0, VOCAB_SIZE, (50,), generator=generator).tolist()
    return path, token_ids, expected(theirs, token_ids)


@pytest.mark.parametrize("attention", ["native", "blocked", "sdpa", "reference"])
def test_logits_of_tiny_checkpoints(tiny, attention, request):
    """The real loader and either attention, whole or in chunks, give Hugging Face's logits."""
    native = request.getfixturevalue("native") if attention == "native" else None
    path, token_ids, theirs = tiny
    ours = load(path, attention, native)
    for chunk in (1, 7, 100):
        found = logits(ours, token_ids, chunk)
        torch.testing.assert_close(
            found, theirs, atol=1e-4, rtol=1e-4, msg=lambda why, c=chunk: f"chunks of {c}: {why}"
        )


TEXTS = [
    "Greasy fried noodles will be my lunch",
    "def fibonacci(n):\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)\n\nx =  12",
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
]


@pytest.mark.real
def test_logprobs_of_the_default_model(default_model):
    """Prompt logprobs within 2e-3 of the reference on the same dequantized weights."""
    tokenizer = open_checkpoint(default_model).tokenizer()
    ours, theirs = load_exact(default_model), load_reference(default_model)
    for text in TEXTS:
        token_ids = tokenizer.encode_with_special(text)
        left = torch.log_softmax(logits(ours, token_ids, chunk=9), -1)
        right = torch.log_softmax(expected(theirs, token_ids), -1)
        targets = torch.tensor(token_ids[1:])[:, None]
        torch.testing.assert_close(
            left[:-1].gather(1, targets), right[:-1].gather(1, targets), atol=2e-3, rtol=0
        )

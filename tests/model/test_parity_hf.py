"""Logits equal transformers' on tiny random models, over the choices a checkpoint can make."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tests.model.hf import convert, random_weights
from tests.model.steps import Row, make_batch
from tests.model.tiny import make_cache
from tests.oracles.generate import dense
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.reference import ReferenceAttention
from thirdeye.model.attention.sdpa import SdpaAttention

LENGTH = 21
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LLAMA_VARIANTS: dict[str, dict[str, Any]] = {
    "mha": {"num_key_value_heads": 6},
    "gqa": {"num_key_value_heads": 2},
    "mqa": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "head-dim": {"head_dim": 16},
    "gelu": {"hidden_act": "gelu_pytorch_tanh"},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    "llama3": {"rope_parameters": LLAMA3},
}
GPT2_VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "untied": {"tie_word_embeddings": False},
    "exact-gelu": {"activation_function": "gelu"},
    "inner": {"n_inner": 40},
    "eps": {"layer_norm_epsilon": 0.1},
}


def llama(**changes: Any) -> LlamaForCausalLM:
    sizes = {
        "vocab_size": 101,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
    }
    return LlamaForCausalLM(LlamaConfig(**(sizes | changes))).eval()


def gpt2(**changes: Any) -> GPT2LMHeadModel:
    sizes = {
        "vocab_size": 101,
        "n_embd": 48,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return GPT2LMHeadModel(GPT2Config(**(sizes | changes))).eval()


def check(hf: GPT2LMHeadModel | LlamaForCausalLM, attention: AttentionBackend) -> None:
    random_weights(hf)
    model, pushed = convert(hf, attention)
    fused = {(name, None) for name, part in model.expected() if part}
    assert {pair for pair in model.expected() if (pair[0], None) not in pushed} <= pushed
    assert pushed <= model.expected() | fused
    assert not any(dense(parameter).isnan().any() for parameter in model.parameters())

    token_ids = torch.randint(101, (LENGTH,), generator=torch.Generator().manual_seed(2)).tolist()
    batch = make_batch([Row(token_ids, 0, [5, 0, 11, 2, 7, 9])], 4, logits="all")
    ours = model(batch, make_cache(model.config))
    theirs = hf(torch.tensor([token_ids])).logits[0]
    assert theirs.std() > 0.3  # the logits say something
    torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", LLAMA_VARIANTS)
def test_llama_logits(variant: str) -> None:
    """Llama-type checkpoints give transformers' logits."""
    check(llama(**LLAMA_VARIANTS[variant]), SdpaAttention())


@pytest.mark.parametrize("variant", GPT2_VARIANTS)
def test_gpt2_logits(variant: str) -> None:
    """GPT-2-type checkpoints give transformers' logits; the fused c_attn fills q, k and v."""
    check(gpt2(**GPT2_VARIANTS[variant]), SdpaAttention())


@pytest.mark.parametrize("hf", [llama, gpt2])
def test_logits_with_reference_attention(hf: Any) -> None:
    """The textbook backend is right by itself, not only equal to the fused one."""
    check(hf(), ReferenceAttention())

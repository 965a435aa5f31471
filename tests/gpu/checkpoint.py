"""A checkpoint of random weights on disk, so that a server can be measured where no model can be
had: Llama's layout, any sizes, and a vocabulary of as many words as the model has logits.

Words are letters put together by merges, so that every token has a text to be streamed: an answer
of unused tokens would be empty, and sent for nothing.
"""

import json
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from thirdeye.model.config import ModelConfig
from thirdeye.server.bench.model_shapes import QWEN3_0_6B, TINY

LETTERS = "abcdefghijklmnopqrstuvwxyz"
END = "<|end|>"

# The sizes of Qwen3-0.6B in the architecture that the server reads: without norms of queries, keys.
LLAMA_0_6B = replace(QWEN3_0_6B, architecture="llama", qk_norm=False)
LLAMA_TINY = replace(TINY, architecture="llama", vocab_size=1024, max_position_embeddings=512)


def write_checkpoint(
    path: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device
) -> None:
    """config.json, tokenizer.json and model.safetensors, with weights N(0, 0.02) and norms 1."""
    assert config.rope is not None
    fields = {
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "tie_word_embeddings": config.tie_word_embeddings,
        "eos_token_id": config.vocab_size - 1,
    }
    (path / "config.json").write_text(json.dumps(fields))
    (path / "tokenizer.json").write_text(json.dumps(tokenizer(config.vocab_size)))
    save_file(random_tensors(config, dtype, device), path / "model.safetensors")


def random_tensors(
    config: ModelConfig, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return {
        name: torch.ones(shape, dtype=dtype)
        if name.endswith("norm.weight")
        else torch.empty(shape, dtype=dtype, device=device)
        .normal_(0, 0.02, generator=generator)
        .cpu()
        for name, shape in tensor_shapes(config).items()
    }


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Under Hugging Face's names."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    shapes = {
        f"model.layers.{i}.{name}": shape
        for i in range(config.num_hidden_layers)
        for name, shape in layer.items()
    }
    shapes |= {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def tokenizer(vocab_size: int) -> dict[str, object]:
    """Byte-level BPE in GPT-2's manner: all bytes, words of 2, 3 and 4 letters, and the end."""
    alphabet = byte_letters()
    longer = ("".join(word) for size in (2, 3, 4) for word in product(LETTERS, repeat=size))
    words = list(islice(longer, vocab_size - len(alphabet) - 1))
    vocab = {word: i for i, word in enumerate([*alphabet, *words])}
    return {
        "model": {"type": "BPE", "vocab": vocab, "merges": [[w[:-1], w[-1]] for w in words]},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "added_tokens": [{"content": END, "id": vocab_size - 1}],
    }


def byte_letters() -> list[str]:
    """What byte-level vocabularies write for the bytes 0 to 255: a visible letter for each."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]

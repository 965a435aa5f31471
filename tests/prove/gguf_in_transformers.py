"""Qwen 2.5 and Gemma 3 in `transformers`, from a GGUF file, without a line of ours.

The `gguf` package reads and dequantizes; names and settings are written down here once more, from
llama.cpp's converter: Gemma's norms are stored with the 1 added, and no rows are permuted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
FFN_NORM = {"qwen2": "post_attention_layernorm", "gemma3": "pre_feedforward_layernorm"}
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def load_in_transformers(path: Path) -> PreTrainedModel:
    """In fp32, from the dequantized weights."""
    reader = gguf.GGUFReader(path)
    architecture = str(reader.fields["general.architecture"].contents())
    state = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        is_shifted = architecture == "gemma3" and tensor.name.endswith("norm.weight")
        name = _name(tensor.name, architecture)
        state[name] = torch.from_numpy(values - 1 if is_shifted else values)
    is_tied = "lm_head.weight" not in state
    config = _config(reader, architecture, is_tied)
    kind = {"qwen2": Qwen2ForCausalLM, "gemma3": Gemma3ForCausalLM}[architecture]
    model = kind(config)
    if is_tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


@contextmanager
def in_double(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The same in fp64, norms, rotations and softmax too, which it asks to be in fp32."""
    with pytest.MonkeyPatch.context() as patch:
        softmax = torch.nn.functional.softmax
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(
            torch.nn.functional,
            "softmax",
            lambda x, dim, dtype=None: softmax(x, dim),
        )
        yield model.double()


def _name(name: str, architecture: str) -> str:
    parts = name.split(".")
    if parts[0] != "blk":
        return f"{TOP[parts[0]]}.{parts[1]}"
    layer = LAYER | {"ffn_norm": FFN_NORM[architecture]}
    return f"model.layers.{parts[1]}.{layer[parts[2]]}.{parts[3]}"


def _config(reader: gguf.GGUFReader, architecture: str, is_tied: bool) -> PretrainedConfig:
    def value(key: str) -> Any:
        return reader.fields[f"{architecture}.{key}"].contents()

    rows = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight").shape[1]
    same: dict[str, Any] = {
        "vocab_size": int(rows),
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "max_position_embeddings": value("context_length"),
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": is_tied,
        "attn_implementation": "eager",
    }
    theta = value("rope.freq_base")
    if architecture == "qwen2":
        rope = {"rope_type": "default", "rope_theta": theta}
        return Qwen2Config(**same, rope_parameters=rope)
    ropes = {
        "full_attention": {"rope_type": "default", "rope_theta": theta},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    head_dim = value("attention.key_length")
    return Gemma3TextConfig(
        **same,
        rope_parameters=ropes,
        head_dim=head_dim,
        query_pre_attn_scalar=head_dim,
        sliding_window=value("attention.sliding_window"),
    )

"""What the families from before Llama may say and we do not do is refused by the setting's name."""

from pathlib import Path
from typing import Any

import pytest

from thirdeye.server.launch.commands.info_command import rope_line
from thirdeye.weights.architectures.registry import by_model_type
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields


def read(model_type: str, **settings: Any) -> Any:
    fields = Fields(Path("config.json"), {"model_type": model_type, **settings})
    return by_model_type(fields).huggingface_config(fields)


@pytest.mark.parametrize(
    ("model_type", "settings", "problem"),
    [
        ("gptj", {"rotary_dim": None}, "'rotary_dim': must be the number of channels"),
        ("gptj", {"rotary_dim": 63}, "'rotary_dim': must be even"),
        ("gpt_neox", {"num_attention_heads": 7}, "'num_attention_heads': 7 heads do not"),
        ("gpt_neox", {"rope_theta": 500.0}, "'rope_theta': is not supported"),
        ("gpt_neox", {"rope_theta": 1e4, "rotary_emb_base": 500}, "'rope_theta': is not supported"),
        ("phi", {"qk_layernorm": True}, "'qk_layernorm': is not supported"),
        ("phi", {"num_key_value_heads": 5}, "'num_key_value_heads': 5 key-value heads"),
        ("bloom", {"slow_but_exact": True}, "'slow_but_exact': is not supported"),
        ("bloom", {"n_layer": 0}, "'n_layer': must be between 1 and"),
        ("mpt", {"attn_config": {"qk_ln": True}}, "'attn_config.qk_ln': is not supported"),
        ("mpt", {"attn_config": {"alibi": False}}, "'attn_config.alibi': is not supported"),
        ("mpt", {"attn_config": {"clip_qkv": -1}}, "'attn_config.clip_qkv': must be a finite"),
        ("mpt", {"no_bias": False}, "'no_bias': is not supported"),
        ("falcon", {"num_ln_in_parallel_attn": 2}, "'num_ln_in_parallel_attn': must be 1"),
        ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 8}, "'num_kv_heads': 8 key"),
        ("gpt_bigcode", {"scale_attn_weights": False}, "'scale_attn_weights': is not supported"),
        ("gpt_neo", {"attention_types": [[[], 10**30]]}, "'attention_types': must be pairs"),
        ("gpt_neo", {"attention_types": [[["global"], 25]]}, "pairs, as .* of 24 layers in all"),
        ("gpt_neo", {"attention_types": [[["global"], -1]]}, "'attention_types': must be pairs"),
        ("opt", {"is_causal": False}, "'is_causal': is not supported"),
    ],
)
def test_refused_by_name(model_type: str, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelFormatError, match=problem):
        read(model_type, **settings)


def test_both_names_of_a_rotation_may_say_the_same() -> None:
    """As transformers 4 saved it; transformers 5 reads GPT-NeoX's own name alone."""
    both = read("gpt_neox", rope_theta=500, rotary_emb_base=500)
    assert both == read("gpt_neox", rotary_emb_base=500)
    assert both != read("gpt_neox")


def test_names_of_either_kind_are_read() -> None:
    """BLOOM's files have the short names or the long ones, as transformers reads both."""
    short = read("bloom", n_embed=96, n_head=4, n_layer=3)
    long = read("bloom", hidden_size=96, num_attention_heads=4, num_hidden_layers=3)
    assert short == long
    assert (short.hidden_size, short.num_heads, short.num_hidden_layers) == (96, 4, 3)


def test_what_info_says_of_positions() -> None:
    assert rope_line(read("bloom")) == "none, but ALiBi"
    assert rope_line(read("opt")) == "learned"
    assert rope_line(read("phi")) == "rotary, theta 10,000, 32 of 64 channels"

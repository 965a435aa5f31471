"""Gemma 4's settings: in the two forms that files have them, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.architectures.conftest import Written
from tests.architectures.running import load, logits
from tests.architectures.test_architectures import TOKENS, close, theirs_of
from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.gemma.gemma4 import GEMMA4
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields

SIZES = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 97, "hidden_size_per_layer_input": 0,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}  # fmt: skip
FULL = {"head_dim": 24, "num_key_value_heads": 3}
BY_LAYER = {"per_layer_config": {"1": FULL, "3": FULL}}


def read(**changes: Any) -> ModelConfig:
    return GEMMA4.huggingface_config(Fields(Path("config.json"), SIZES | changes))


def test_both_forms_of_heads() -> None:
    """Files of before transformers 5.23 say the full layers' heads once."""
    once = {"global_head_dim": 24, "num_global_key_value_heads": 3, "attention_k_eq_v": True}
    assert read(attention_k_eq_v=True, **BY_LAYER) == read(**once)
    assert read(**once).kv_shapes == ((2, 16), (3, 24)) * 2
    assert read(**once | {"attention_k_eq_v": False}).kv_shapes == ((2, 16), (2, 24)) * 2
    assert read().kv_shapes == ((2, 16), (2, 512)) * 2


def test_the_last_layer_sees_all_keys() -> None:
    """Whatever the file says, as in transformers."""
    kinds = ["full_attention", "sliding_attention"] * 2
    assert [spec.window for spec in read(layer_types=kinds).attention] == [None, 512, None, None]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
        ({"rope_theta": 1e4}, "rope_theta"),
        ({"per_layer_config": {"1": FULL}}, "per_layer_config"),
        ({"per_layer_config": {"1": FULL, "3": FULL, "4": FULL}}, "per_layer_config.4"),
        ({"per_layer_config": {"1": {"sliding_window": 3}}}, "per_layer_config.1.sliding_window"),
        ({"per_layer_config": {"1": {"head_dim": 7}}}, "per_layer_config.1.head_dim"),
        ({"global_head_dim": 7}, "global_head_dim"),
        ({"num_kv_shared_layers": 3}, "num_kv_shared_layers"),
        ({"num_kv_shared_layers": 9}, "num_kv_shared_layers"),
        ({"hidden_size_per_layer_input": 8}, "vocab_size_per_layer_input"),
    ],
)
def test_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelFormatError, match=rf"'{field}'"):
        read(**changes)


def test_keys_of_layers_that_read_others_are_left_where_they_are(
    written: Written, tmp_path: Path
) -> None:
    """There are files that have them, as training left them; transformers drops them too."""
    hf, path, _ = written("gemma4_text-shared")
    config = json.loads((path / "config.json").read_text())
    tensors = load_file(path / "model.safetensors")
    for name in ("k_proj", "v_proj", "k_norm"):
        like = tensors[f"model.layers.3.self_attn.{name}.weight"]
        tensors[f"model.layers.5.self_attn.{name}.weight"] = torch.randn_like(like)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    close(logits(load(tmp_path), TOKENS), theirs_of(hf))
    tensors["model.layers.2.self_attn.k_extra.weight"] = torch.zeros(1)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFormatError, match="has no place for 1 tensors"):
        load(tmp_path)

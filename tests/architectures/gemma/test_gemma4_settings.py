"""Gemma 4's settings: in the two forms that files have them, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.architectures.cases import VOCAB_SIZE, randomized
from tests.architectures.conftest import Written
from tests.architectures.gemma.gemma4_cases import FULL, NEAR, gemma4, gemma4_gguf
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
OWN = {"head_dim": 24, "num_key_value_heads": 3}
BY_LAYER = {"per_layer_config": {"1": OWN, "3": OWN}}


def read(**changes: Any) -> ModelConfig:
    return GEMMA4.huggingface_config(Fields(Path("config.json"), SIZES | changes))


def test_both_forms_of_heads() -> None:
    """Files of before transformers 5.23 say the full layers' heads once."""
    once = {"global_head_dim": 24, "num_global_key_value_heads": 3, "attention_k_eq_v": True}
    assert read(attention_k_eq_v=True, **BY_LAYER) == read(**once)
    assert read(**once).kv_shapes == ((2, 16), (3, 24)) * 2
    assert read(**once | {"attention_k_eq_v": False}).kv_shapes == ((2, 16), (2, 24)) * 2
    assert read().kv_shapes == ((2, 16), (2, 512)) * 2


def test_layers_are_numbered_with_as_many_digits_as_the_last() -> None:
    """As transformers writes them, of ten layers on."""
    kinds = ["sliding_attention", "full_attention"] * 6
    own = {"per_layer_config": {f"{layer:02}": OWN for layer in range(1, 12, 2)}}
    sizes = {"num_hidden_layers": 12, "layer_types": kinds}
    assert read(**sizes, **own).kv_shapes == ((2, 16), (3, 24)) * 6


def test_the_last_layer_sees_all_keys() -> None:
    """Whatever the file says, as in transformers."""
    kinds = ["full_attention", "sliding_attention"] * 2
    assert [spec.window for spec in read(layer_types=kinds).attention] == [None, 512, None, None]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
        ({"rope_theta": 1e4}, "rope_theta"),
        ({"per_layer_config": {"1": OWN}}, "per_layer_config"),
        ({"per_layer_config": {"1": OWN, "3": OWN, "4": OWN}}, "per_layer_config.4"),
        ({"per_layer_config": {"1": OWN, "3": OWN, "03": OWN}}, "per_layer_config.03"),
        ({"per_layer_config": {"1": OWN, "3": OWN, "-1": OWN}}, "per_layer_config.-1"),
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


def test_the_layers_table_is_kept_as_its_file_has_it(tmp_path: Path) -> None:
    """It is the most of a small model: rows are decoded as they are looked up, to the same bits."""
    case = gemma4(
        num_hidden_layers=4,
        layer_types=[NEAR, FULL] * 2,
        global_head_dim=24,
        hidden_size_per_layer_input=16,
        vocab_size_per_layer_input=VOCAB_SIZE,
    )
    kinds, model = gguf.GGMLQuantizationType, randomized(case)
    path = gemma4_gguf(model, tmp_path / "q8.gguf", kinds.Q8_0)
    ours = load(path)
    assert ours.layer_inputs is not None
    assert ours.layer_inputs.table.weight.numel() == 0
    name = "model.embed_tokens_per_layer.weight"
    table = model.get_parameter(name)
    table.copy_(
        torch.from_numpy(gguf.dequantize(gguf.quantize(table.numpy(), kinds.Q8_0), kinds.Q8_0))
    )
    plain = load(gemma4_gguf(model, tmp_path / "f32.gguf"))
    assert plain.layer_inputs is not None
    assert plain.layer_inputs.table.weight.numel()
    assert torch.equal(logits(ours, TOKENS), logits(plain, TOKENS))
    close(logits(ours, TOKENS), theirs_of(model))

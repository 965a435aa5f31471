"""Checkpoints written by transformers, and by a converter like llama.cpp's, load to the same
tensors."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.weights import tiny
from tests.weights.sinks import RecordingSink, Target
from thirdeye.model.config import Activation, Norm, RopeConfig, RopeScaling
from thirdeye.weights.architectures.common.rope_scaling import llama3_divisors
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.load import load_weights

LLAMA_PARTS = {
    "embed_tokens": ("embed_tokens", None),
    "norm": ("final_norm", None),
    "input_layernorm": ("attention_norm", None),
    "self_attn.q_proj": ("attention.qkv", "q"),
    "self_attn.k_proj": ("attention.qkv", "k"),
    "self_attn.v_proj": ("attention.qkv", "v"),
    "self_attn.o_proj": ("attention.output", None),
    "post_attention_layernorm": ("mlp_norm", None),
    "mlp.gate_proj": ("mlp.gate_up", "gate"),
    "mlp.up_proj": ("mlp.gate_up", "up"),
    "mlp.down_proj": ("mlp.down", None),
}
GPT2_PARTS = {
    "wte": ("embed_tokens", None),
    "wpe": ("embed_positions", None),
    "ln_f": ("final_norm", None),
    "ln_1": ("attention_norm", None),
    "attn.c_attn": ("attention.qkv", None),
    "attn.c_proj": ("attention.output", None),
    "ln_2": ("mlp_norm", None),
    "mlp.c_fc": ("mlp.up", None),
    "mlp.c_proj": ("mlp.down", None),
}


def wanted_llama(model: PreTrainedModel) -> dict[Target, Tensor]:
    """The mapping once more, written from transformers' side."""
    wanted = {}
    for name, tensor in model.model.state_dict().items():
        stem, kind = name.rsplit(".", 1)
        block = ""
        if stem.startswith("layers."):
            _, layer, stem = stem.split(".", 2)
            block = f"blocks.{layer}."
        ours, part = LLAMA_PARTS[stem]
        wanted[f"{block}{ours}.{kind}", part] = tensor
    if not model.config.tie_word_embeddings:
        wanted["lm_head.weight", None] = model.lm_head.weight
    return wanted


def wanted_gpt2(model: PreTrainedModel) -> dict[Target, Tensor]:
    wanted = {}
    for name, tensor in model.transformer.state_dict().items():
        stem, kind = name.rsplit(".", 1)
        block = ""
        if stem.startswith("h."):
            _, layer, stem = stem.split(".", 2)
            block = f"blocks.{layer}."
        ours, part = GPT2_PARTS[stem]
        is_conv1d = ".c_" in f".{stem}" and kind == "weight"
        wanted[f"{block}{ours}.{kind}", part] = tensor.t() if is_conv1d else tensor
    if not model.config.tie_word_embeddings:
        wanted["lm_head.weight", None] = model.lm_head.weight
    return wanted


def assert_loads(checkpoint: Checkpoint, wanted: dict[Target, Tensor]) -> None:
    sink = RecordingSink(checkpoint.config)
    load_weights(checkpoint, sink)
    assert sink.loaded.keys() == wanted.keys()
    for target, tensor in wanted.items():
        assert torch.equal(sink.loaded[target].float(), tensor.float()), target


LLAMAS = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "head size of its own": {"head_dim": 16},
    "one key-value head": {"num_key_value_heads": 1},
    "linear scaling": {
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}
    },
}


@pytest.mark.parametrize("changes", LLAMAS.values(), ids=LLAMAS.keys())
def test_llama_both_ways(tmp_path: Path, changes: dict[str, Any]) -> None:
    """safetensors and GGUF of one model give one config and one set of tensors: in particular, the
    converter's permutation of q and k is undone."""
    model = tiny.llama(**changes)
    directory = open_checkpoint(tiny.save(model, tmp_path / "llama"))
    file = open_checkpoint(tiny.llama_gguf(model, tmp_path / "llama.gguf"))
    assert directory.config == file.config
    assert_loads(directory, wanted_llama(model))
    assert_loads(file, wanted_llama(model))


@pytest.mark.parametrize("changes", [{}, {"n_inner": 48}, {"tie_word_embeddings": False}])
def test_gpt2(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = tiny.gpt2(**changes)
    checkpoint = open_checkpoint(tiny.save(model, tmp_path / "gpt2"))
    assert checkpoint.config.intermediate_size == changes.get("n_inner", 128)
    assert_loads(checkpoint, wanted_gpt2(model))


def test_gpt2_both_ways(tmp_path: Path) -> None:
    model = tiny.gpt2()
    directory = open_checkpoint(tiny.save(model, tmp_path / "gpt2"))
    file = open_checkpoint(tiny.gpt2_gguf(model, tmp_path / "gpt2.gguf"))
    assert directory.config == file.config
    assert_loads(file, wanted_gpt2(model))


def test_gpt2_without_its_prefix_and_with_mask_buffers(tmp_path: Path) -> None:
    """The files of the first GPT-2 releases: no `transformer.`, causal masks among the weights."""
    from safetensors.torch import save_file

    model = tiny.gpt2()
    path = tiny.save(model, tmp_path / "gpt2")
    tensors = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.uint8)
    tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, path / "model.safetensors")
    assert_loads(open_checkpoint(path), wanted_gpt2(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    """Stored dtypes pass through; the model casts."""
    model = tiny.llama().to(dtype)
    checkpoint = open_checkpoint(tiny.save(model, tmp_path / "llama"))
    assert {tensor.dtype for _, tensor in checkpoint.tensors()} == {dtype}
    assert_loads(checkpoint, wanted_llama(model))


def test_shards(tmp_path: Path) -> None:
    model = tiny.llama()
    path = tiny.save(model, tmp_path / "llama", max_shard_size="20KB")
    assert len(list(path.glob("*.safetensors"))) > 2
    assert_loads(open_checkpoint(path), wanted_llama(model))


def test_one_file_beside_the_shards_of_another_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """transformers looks for the one first: an index may have been left by whoever saved before."""
    path = tiny.save(tiny.llama(), tmp_path / "llama", max_shard_size="20KB")
    other = tiny.llama()
    with torch.no_grad():
        other.model.embed_tokens.weight.mul_(2)
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").rename(path / "model.safetensors")
    theirs = AutoModelForCausalLM.from_pretrained(path)
    assert torch.equal(theirs.model.embed_tokens.weight, other.model.embed_tokens.weight)
    assert_loads(open_checkpoint(path), wanted_llama(other))
    assert "'model.safetensors' is read" in caplog.text
    min(path.glob("model-*")).unlink()
    assert_loads(open_checkpoint(path), wanted_llama(other))


def test_a_tied_model_may_carry_its_head(tmp_path: Path) -> None:
    """The copy is ignored by rule, as transformers does."""
    from safetensors.torch import load_file, save_file

    model = tiny.llama(tie_word_embeddings=True)
    path = tiny.save(model, tmp_path / "llama")
    tensors = load_file(path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, path / "model.safetensors")
    assert_loads(open_checkpoint(path), wanted_llama(model))


def test_configs_say_what_transformers_says(tmp_path: Path) -> None:
    config = open_checkpoint(tiny.save(tiny.llama(), tmp_path / "llama")).config
    assert (config.architecture, config.hidden_size, config.head_dim) == ("llama", 32, 8)
    assert (config.num_heads, config.num_kv_heads, config.vocab_size) == (4, 2, 96)
    assert (config.norm, config.norm_eps) == (Norm.RMS_NORM, 1e-6)
    assert (config.activation, config.gated_mlp) == (Activation.SILU, True)
    assert config.rope == RopeConfig(10000.0, 8)
    config = open_checkpoint(tiny.save(tiny.gpt2(), tmp_path / "gpt2")).config
    assert (config.norm, config.norm_eps, config.rope) == (Norm.LAYER_NORM, 1e-5, None)
    assert (config.activation, config.gated_mlp) == (Activation.GELU_TANH, False)
    assert config.tie_word_embeddings
    assert config.max_position_embeddings == 64


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}  # fmt: skip


def test_llama3_scaling_both_ways(tmp_path: Path) -> None:
    """GGUF holds Llama 3's scaling as a table of divisors; the rule behind it is found again."""
    model = tiny.llama(rope_parameters=LLAMA3, head_dim=64)
    directory = open_checkpoint(tiny.save(model, tmp_path / "llama"))
    scaling = RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)
    assert directory.config.rope == RopeConfig(5e5, 64, scaling)
    plain = 1 / 5e5 ** (np.arange(0, 64, 2) / 64)
    table = plain / model.model.rotary_emb.inv_freq.numpy()
    assert llama3_divisors(scaling, 5e5, 64) == pytest.approx(table, rel=1e-5)
    extra = {"rope_freqs.weight": table.astype(np.float32)}
    file = open_checkpoint(tiny.llama_gguf(model, tmp_path / "llama.gguf", extra))
    assert file.config == directory.config
    assert_loads(file, wanted_llama(model))


def test_an_unknown_scaling_table_is_refused(tmp_path: Path) -> None:
    extra = {"rope_freqs.weight": np.linspace(1, 8, 4, dtype=np.float32)}
    path = tiny.llama_gguf(tiny.llama(), tmp_path / "llama.gguf", extra)
    with pytest.raises(ModelFormatError, match=r"rope_freqs\.weight.*not a table of Llama 3"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_rows_of_blocks_are_put_in_order(tmp_path: Path, name: str) -> None:
    """The converter's permutation is undone on stored blocks too: a row's are its own."""
    kind = gguf.GGMLQuantizationType[name]
    model = tiny.llama()
    checkpoint = open_checkpoint(tiny.llama_gguf(model, tmp_path / "m.gguf", kind=kind))
    sink = RecordingSink(checkpoint.config)
    load_weights(checkpoint, sink)
    for part in "qkv":
        rows = getattr(model.model.layers[1].self_attn, f"{part}_proj").weight.detach().numpy()
        wanted = gguf.dequantize(gguf.quantize(rows, kind), kind)
        np.testing.assert_array_equal(sink.loaded["blocks.1.attention.qkv.weight", part], wanted)

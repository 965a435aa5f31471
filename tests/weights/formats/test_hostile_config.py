"""A config.json or GGUF metadata that lies, or asks for what we do not have, is refused by name."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from thirdeye.model.config import RopeScaling
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError

LLAMA = {
    "model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}  # fmt: skip
QWEN3 = LLAMA | {"model_type": "qwen3", "head_dim": 16}
WINDOWED = QWEN3 | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
GPT2 = {"model_type": "gpt2", "vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4}


def directory(tmp_path: Path, config: object) -> Path:
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / "config.json").write_text(text)
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("base", [LLAMA, GPT2, QWEN3, WINDOWED])
def test_the_base_is_accepted(tmp_path: Path, base: dict[str, Any]) -> None:
    assert open_checkpoint(directory(tmp_path, base)).config.vocab_size == 96


SIZES = [(LLAMA, key) for key in LLAMA if key != "model_type"]
SIZES += [(GPT2, key) for key in GPT2 if key != "model_type"]
SIZES += [(LLAMA, "head_dim"), (GPT2, "n_inner"), (GPT2, "n_positions")]


@pytest.mark.parametrize(("base", "key"), SIZES)
@pytest.mark.parametrize("value", [0, -1, 10**9, 10**400, 1.5, "32", True, [32]])
def test_sizes(tmp_path: Path, base: dict[str, Any], key: str, value: object) -> None:
    with pytest.raises(ModelFormatError, match=f"'{key}'.*must be"):
        open_checkpoint(directory(tmp_path, base | {key: value}))


REFUSED = {
    "heads do not divide": (LLAMA, {"num_attention_heads": 5, "num_key_value_heads": 5}),
    "kv heads do not divide": (LLAMA, {"num_key_value_heads": 3}),
    "more kv heads than heads": (LLAMA, {"num_key_value_heads": 8}),
    "odd head size": (LLAMA, {"head_dim": 7}),
    "gpt2 heads do not divide": (GPT2, {"n_head": 5}),
    "eps 0": (LLAMA, {"rms_norm_eps": 0}),
    "eps negative": (GPT2, {"layer_norm_epsilon": -1e-5}),
    "eps a string": (LLAMA, {"rms_norm_eps": "1e-5"}),
    "eps endless": (LLAMA, {"rms_norm_eps": 10**400}),
    "theta 0": (LLAMA, {"rope_theta": 0.0}),
    "activation": (LLAMA, {"hidden_act": "xielu"}),
    "gpt2 activation": (GPT2, {"activation_function": "xielu"}),
    "bias not boolean": (LLAMA, {"attention_bias": 1}),
    "quantized": (LLAMA, {"quantization_config": {"quant_method": "gptq"}}),
    "bidirectional": (LLAMA, {"is_causal": False}),
    "partly rotary": (LLAMA, {"partial_rotary_factor": 0.5}),
    "partly rotary, new": (LLAMA, {"rope_parameters": {"partial_rotary_factor": 0.5}}),
    "multimodal rope": (LLAMA, {"rope_scaling": {"type": "mrope", "factor": 4.0}}),
    "dynamic without factor": (LLAMA, {"rope_parameters": {"rope_type": "dynamic"}}),
    "longrope without factors": (LLAMA, {"rope_scaling": {"type": "longrope", "factor": 4.0}}),
    "longrope with too few": (
        LLAMA,
        {"rope_scaling": {"type": "su", "long_factor": [1.0], "short_factor": [1.0]}},
    ),
    "linear without factor": (LLAMA, {"rope_scaling": {"type": "linear"}}),
    "rope not an object": (LLAMA, {"rope_scaling": 4}),
    "llama3 without bounds": (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
    "partial rotary": (LLAMA, {"partial_rotary_factor": 0.1}),
    "partial rotary above 1": (LLAMA, {"partial_rotary_factor": 2}),
    "windows without saying so": (QWEN3, {"layer_types": ["sliding_attention"] * 2}),
    "window of nothing": (WINDOWED, {"sliding_window": 0}),
    "too few layer types": (WINDOWED, {"layer_types": ["full_attention"]}),
    "layer types not strings": (WINDOWED, {"layer_types": [["full_attention"], 3]}),
    "another layer type": (WINDOWED, {"layer_types": ["full_attention", "linear_attention"]}),
    "unscaled attention": (GPT2, {"scale_attn_weights": False}),
    "layer scaling": (GPT2, {"scale_attn_by_inverse_layer_idx": True}),
    "cross attention": (GPT2, {"add_cross_attention": True}),
}


@pytest.mark.parametrize(("base", "change"), REFUSED.values(), ids=REFUSED.keys())
def test_what_we_cannot_do_is_refused_by_name(
    tmp_path: Path, base: dict[str, Any], change: dict[str, Any]
) -> None:
    with pytest.raises(ModelFormatError, match=r"config\.json, '"):
        open_checkpoint(directory(tmp_path, base | change))


def test_unknown_architectures_are_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"'novel' is not supported.*gpt2, llama"):
        open_checkpoint(directory(tmp_path, {"model_type": "novel"}))
    with pytest.raises(ModelFormatError, match=r"'mamba' is not supported: .* work 'lfm2'"):
        open_checkpoint(directory(tmp_path, {"model_type": "mamba"}))
    with pytest.raises(ModelFormatError, match=r"'model_type'.*required"):
        open_checkpoint(directory(tmp_path, {}))


def test_a_misspelt_architecture_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"The nearest name is 'starcoder2'\.$"):
        open_checkpoint(directory(tmp_path, {"model_type": "star_coder2"}))
    with pytest.raises(ModelFormatError, match=r"\w\.$") as refusal:
        open_checkpoint(directory(tmp_path, {"model_type": "zzz"}))
    assert "nearest" not in str(refusal.value)


def test_a_byte_order_mark_is_no_part_of_json(tmp_path: Path) -> None:
    """Windows' editors leave one."""
    open_checkpoint(directory(tmp_path, "\ufeff" + json.dumps(LLAMA)))
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        open_checkpoint(directory(tmp_path, "\ufeff\ufeff" + json.dumps(LLAMA)))


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    """It may be any bytes of a damaged file, each written as four characters."""
    error = ModelFormatError(tmp_path, "is wrong.", field="\0" * 1000)
    assert len(str(error)) < 700
    assert str(error).endswith("...': is wrong.")
    assert str(error.and_say("Mend it.")).endswith("...': is wrong. Mend it.")
    assert str(ModelFormatError(tmp_path, "\0" * 5000)).endswith("\\x00...")
    assert len(str(ModelFormatError(tmp_path, "\0" * 5000))) < 1200


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '{"vocab_size": NaN}', '{"vocab_size": -Infinity}',
     '{"vocab_size": Infinity}', "[" * 100_000, '{"a":' * 100_000,
     '{"vocab_size": ' + "9" * 5000 + "}", '"\\ud800'],
)  # fmt: skip
def test_bad_json(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        open_checkpoint(directory(tmp_path, text))


def test_bad_bytes_and_sizes(tmp_path: Path) -> None:
    directory(tmp_path, LLAMA)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelFormatError, match="cannot be read"):
        open_checkpoint(tmp_path)
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ModelFormatError, match="the limit is"):
        open_checkpoint(tmp_path)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"there is no config\.json"):
        open_checkpoint(tmp_path)
    with pytest.raises(ModelFormatError, match="no such file or directory"):
        open_checkpoint(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelFormatError, match="neither a directory nor a GGUF file"):
        open_checkpoint(tmp_path / "notes.txt")


GGUF_LLAMA = {
    "context_length": 128, "embedding_length": 32, "block_count": 1, "feed_forward_length": 64,
    "attention.head_count": 4, "attention.layer_norm_rms_epsilon": 1e-5,
}  # fmt: skip


def gguf_file(path: Path, values: dict[str, Any], arch: str = "llama") -> Path:
    writer = gguf.GGUFWriter(path, arch)
    for key, value in values.items():
        key = key if key.startswith(("general.", "split.", "tokenizer.")) else f"{arch}.{key}"
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_int64(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
    writer.add_tensor("token_embd.weight", np.zeros((96, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_gguf_base_is_accepted(tmp_path: Path) -> None:
    config = open_checkpoint(gguf_file(tmp_path / "m.gguf", GGUF_LLAMA)).config
    assert (config.vocab_size, config.num_kv_heads, config.tie_word_embeddings) == (96, 4, True)


PER_LAYER = {"attention.head_count": 4, "attention.head_count_kv": 2, "feed_forward_length": 64}


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_numbers_that_all_layers_share_may_be_said_for_each(tmp_path: Path, arch: str) -> None:
    base = GGUF_LLAMA | {"block_count": 3, "attention.layer_norm_epsilon": 1e-5} | PER_LAYER
    if arch == "gpt2":
        base["attention.head_count_kv"] = 4
    once = open_checkpoint(gguf_file(tmp_path / "once.gguf", base, arch)).config
    for key in PER_LAYER:
        each = base | {key: [base[key]] * 3}
        assert open_checkpoint(gguf_file(tmp_path / "each.gguf", each, arch)).config == once
        other = base | {key: [base[key], base[key], 1]}
        with pytest.raises(ModelFormatError, match=rf"'{arch}.{key}': .* layer 2 has 1, not"):
            open_checkpoint(gguf_file(tmp_path / "other.gguf", other, arch))


LINEAR = RopeScaling("linear", 4.0)


@pytest.mark.parametrize(
    "keys",
    [
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        {"rope.scaling.factor": 4.0},
        {"rope.scale_linear": 4.0},
    ],
)
def test_gguf_rope_scaling(tmp_path: Path, keys: dict[str, Any]) -> None:
    """As llama.cpp: linear where no type is said, and by the old key too."""
    config = open_checkpoint(gguf_file(tmp_path / "m.gguf", GGUF_LLAMA | keys)).config
    assert config.rope is not None
    assert config.rope.scaling == LINEAR


def test_gguf_rope_scaling_of_no_type(tmp_path: Path) -> None:
    keys = {"rope.scaling.type": "none", "rope.scaling.factor": 4.0}
    config = open_checkpoint(gguf_file(tmp_path / "m.gguf", GGUF_LLAMA | keys)).config
    assert config.rope is not None
    assert config.rope.scaling is None


def test_rope_scaling_beside_rope_parameters(tmp_path: Path) -> None:
    """What a model card says to paste into a config that transformers 5 has written."""
    change = {
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    }
    config = open_checkpoint(directory(tmp_path, LLAMA | change)).config
    oracle = LlamaConfig(**change).rope_parameters
    assert oracle["factor"] == 4.0, "transformers takes rope_scaling"
    assert config.rope is not None
    assert config.rope.scaling == LINEAR
    assert config.rope.theta == oracle["rope_theta"]


GGUF_REFUSED = {
    "missing": ("embedding_length", None),
    "zero": ("block_count", 0),
    "negative": ("feed_forward_length", -1),
    "huge": ("context_length", 10**9),
    "float": ("attention.head_count", 4.0),
    "of more layers": ("attention.head_count", [4, 4]),
    "of fewer layers": ("feed_forward_length", []),
    "floats": ("attention.head_count", [4.0]),
    "words": ("attention.head_count", ["4"]),
    "none in a layer": ("attention.head_count_kv", [0]),
    "does not divide": ("attention.head_count", 5),
    "kv does not divide": ("attention.head_count_kv", 3),
    "experts": ("expert_count", 8),
    "window": ("attention.sliding_window", 4096),
    "value size": ("attention.value_length", 16),
    "rotary size": ("rope.dimension_count", 4),
    "bidirectional": ("attention.causal", False),
    "unknown rope": ("rope.scaling.type", "spiral"),
    "longrope without its tensors": ("rope.scaling.type", "longrope"),
    "scaling not a string": ("rope.scaling.type", 1),
    "split": ("split.count", 2),
    "template not a string": ("tokenizer.chat_template", 3),
}


@pytest.mark.parametrize(("key", "value"), GGUF_REFUSED.values(), ids=GGUF_REFUSED.keys())
def test_gguf_metadata(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ModelFormatError, match=f"'(llama\\.)?{key}'"):
        open_checkpoint(gguf_file(tmp_path / "m.gguf", GGUF_LLAMA | {key: value}))


def test_gguf_architectures(tmp_path: Path) -> None:
    for name, said in (("novel", "gpt2, llama"), ("mamba", "work 'lfm2'")):
        with pytest.raises(ModelFormatError, match=rf"'{name}' is not supported.*{said}"):
            open_checkpoint(gguf_file(tmp_path / "m.gguf", {}, arch=name))


def test_windows_of_qwen3(tmp_path: Path) -> None:
    """By the rule of the older files, which name no layer types; and by name."""
    named = WINDOWED | {"layer_types": ["sliding_attention", "full_attention"]}
    for settings, expected in ((WINDOWED, [None, 8]), (named, [8, None])):
        config = open_checkpoint(directory(tmp_path, settings)).config
        assert [spec.window for spec in config.attention] == expected
        assert all(spec.rope == config.rope for spec in config.attention)

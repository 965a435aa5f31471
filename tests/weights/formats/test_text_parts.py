"""Checkpoints whose tensors have other names, or a head that their config denies."""

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedModel,
)

from tests.architectures.cases import MINISTRAL3
from tests.architectures.running import load, logits
from tests.weights import vocabularies
from tests.weights.tiny import llama, llama_gguf, save
from thirdeye.weights.architectures.wrappers import WRAPPERS, text_part
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields

TOKENS = torch.randint(90, (30,), generator=torch.Generator().manual_seed(2)).tolist()


def check(path: Path, theirs: Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(logits(load(path), TOKENS), theirs, atol=1e-4, rtol=1e-4)


def theirs_of(model: torch.nn.Module) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model.eval()(torch.tensor([TOKENS])).logits[0]
    return found


def change_config(path: Path, **changes: object) -> None:
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def small_llama(path: Path) -> tuple[torch.nn.Module, Path]:
    """Of weights that keep the logits small."""
    model = llama(tie_word_embeddings=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)
    return model, save(model, path)


def test_a_head_that_the_config_denies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """transformers keeps both tables if they differ, and so do we; we say so."""
    _, path = small_llama(tmp_path)
    change_config(path, tie_word_embeddings=True)
    theirs = theirs_of(AutoModelForCausalLM.from_pretrained(path))
    with caplog.at_level(logging.WARNING):
        check(path, theirs)
    assert "'tie_word_embeddings' is true, but 'lm_head.weight' is not" in caplog.text


def test_a_copy_of_the_embeddings_is_no_head(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, path = small_llama(tmp_path)
    file = path / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, file, {"format": "pt"})
    change_config(path, tie_word_embeddings=True)
    check(path, theirs_of(AutoModelForCausalLM.from_pretrained(path)))
    assert "tie_word_embeddings" not in caplog.text


def test_the_one_of_two_shared_that_was_kept(tmp_path: Path) -> None:
    """Whoever saves a shared tensor once may keep the head, and not the embeddings."""
    _, path = small_llama(tmp_path)
    file = path / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.embed_tokens.weight"]
    save_file(tensors, file, {"format": "pt"})
    change_config(path, tie_word_embeddings=True)
    check(path, theirs_of(AutoModelForCausalLM.from_pretrained(path)))


def test_numbers_of_64_bits(tmp_path: Path) -> None:
    model, path = small_llama(tmp_path)
    model.double().save_pretrained(path)
    check(path, theirs_of(model.float()))


@pytest.mark.parametrize("prefix", ["", "language_model.model.", "model.language_model."])
def test_other_prefixes(tmp_path: Path, prefix: str) -> None:
    model, path = small_llama(tmp_path)
    file = path / "model.safetensors"
    tensors = {
        prefix + name.removeprefix("model.") if name.startswith("model.") else name: tensor
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, {"format": "pt"})
    check(path, theirs_of(model))


TEXT = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 7,
    "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "image_size": 28,
    "num_attention_heads": 2, "patch_size": 14,
}  # fmt: skip


def gemma3() -> PreTrainedModel:
    text = TEXT | {"query_pre_attn_scalar": 16}
    config = Gemma3Config(
        text_config=text, vision_config=VISION, mm_tokens_per_image=1, image_token_index=95
    )
    return Gemma3ForConditionalGeneration(config)


def mistral3(model_type: str = "mistral", **changes: object) -> PreTrainedModel:
    text, vision = TEXT | {"model_type": model_type} | changes, {"model_type": "pixtral"} | VISION
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=95)
    return Mistral3ForConditionalGeneration(config)


def name_of(make: Callable[[], PreTrainedModel]) -> str:
    return str(make.args[0]) if isinstance(make, partial) else make.__name__


def ministral3() -> PreTrainedModel:
    return mistral3("ministral3", sliding_window=None, rope_parameters=MINISTRAL3)


CLIP = VISION | {"model_type": "clip_vision_model", "projection_dim": 16}
SIGLIP = VISION | {"model_type": "siglip_vision_model"}
GRID = {"image_grid_pinpoints": [[28, 28]]}
SIGLIP2 = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "patch_size": 14, "num_patches": 4, "model_type": "siglip2_vision_model",
}  # fmt: skip
CONVOLUTIONS = {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3}
QWEN = {
    "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 14,
    "out_hidden_size": 32, "num_position_embeddings": 16,
}  # fmt: skip
DELTA = {
    "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
SPARSE = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}  # fmt: skip
MROPE: dict[str, Any] = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [1, 1, 2]},
    "head_dim": 8,
}
INTERLEAVED = MROPE["rope_parameters"] | {"mrope_interleaved": True}
OTHERS: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "llava": ("llama", CLIP, {}),
    "llava_next": ("llama", CLIP, GRID),
    "llava_onevision": ("qwen2", SIGLIP, GRID),
    "vipllava": ("llama", CLIP, {"vision_feature_layers": [-1]}),
    "idefics2": (
        "mistral",
        VISION,
        {
            "perceiver_config": {
                "hidden_size": 32,
                "resampler_n_latents": 2,
                "resampler_depth": 1,
                "resampler_n_heads": 2,
                "resampler_head_dim": 8,
                "num_key_value_heads": 2,
            }
        },
    ),
    "lfm2_vl": ("lfm2", SIGLIP2, {"text": CONVOLUTIONS, "projector_hidden_size": 16}),
    "deepseek_vl": ("llama", SIGLIP, {}),
    "idefics3": ("llama", VISION, {}),
    "smolvlm": ("llama", VISION, {}),
    "internvl": ("qwen2", VISION | {"image_size": [28, 28], "patch_size": [14, 14]}, {}),
    "qwen3_5": ("qwen3_5_text", QWEN, {"text": DELTA}),
    "qwen3_5_moe": ("qwen3_5_moe_text", QWEN, {"text": DELTA | SPARSE}),
    "qwen2_vl": ("qwen2_vl_text", QWEN | {"embed_dim": 16}, {"text": MROPE}),
    "qwen2_5_vl": ("qwen2_5_vl_text", QWEN, {"text": MROPE}),
    "qwen3_vl": (
        *("qwen3_vl_text", QWEN | {"deepstack_visual_indexes": [0]}),
        {"text": {"head_dim": 8, "rope_parameters": INTERLEAVED}},
    ),
    "cohere2_vision": ("cohere2", SIGLIP, {}),
    "aya_vision": ("cohere2", SIGLIP, {}),
    "lighton_ocr": ("qwen3", VISION | {"model_type": "pixtral", "head_dim": 8}, {}),
}


def gemma4() -> PreTrainedModel:
    """With eyes and without: it is told of each token besides, and its last layers share keys."""
    text = TEXT | {
        "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 96,
        "num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 3,
        "global_head_dim": 24,
    }  # fmt: skip
    vision = VISION | {"num_key_value_heads": 2, "head_dim": 8, "position_embedding_size": 16}
    config = Gemma4Config(
        text_config=text, vision_config=vision, image_token_id=95, audio_token_id=94,
        video_token_id=93,
    )  # fmt: skip
    return Gemma4ForConditionalGeneration(config)


def gemma4_unified() -> PreTrainedModel:
    text = TEXT | {"global_head_dim": 24}
    vision = {"patch_size": 2, "mm_embed_dim": 32, "mm_posemb_size": 8, "output_proj_dims": 32}
    config = Gemma4UnifiedConfig(
        text_config=text, vision_config=vision, audio_config={"audio_embed_dim": 16},
        image_token_id=95, audio_token_id=94, video_token_id=93,
    )  # fmt: skip
    return Gemma4UnifiedForConditionalGeneration(config)


def other(model_type: str) -> PreTrainedModel:
    text, vision, found = OTHERS[model_type]
    more: dict[str, Any] = dict(found)
    small = TEXT | {"model_type": text, "num_hidden_layers": 2} | more.pop("text", {})
    token = {"image_token_index": 95, "image_token_id": 95}
    config = CONFIG_MAPPING[model_type](text_config=small, vision_config=vision, **token, **more)
    model: PreTrainedModel = AutoModelForImageTextToText.from_config(config)
    return model


def test_others_are_refused_with_what_would_work() -> None:
    for whole, problem in (
        (
            {"model_type": "paligemma", "text_config": {"model_type": "gemma"}},
            "is served of qwen2_vl",
        ),
        ({"model_type": "llava"}, "'text_config': is required and missing"),
    ):
        with pytest.raises(ModelFormatError, match=problem):
            text_part(Fields(Path("config.json"), whole))


def test_every_one_is_tried() -> None:
    assert WRAPPERS.keys() == {"gemma3", "gemma4", "gemma4_unified", "mistral3", *OTHERS}


@pytest.mark.parametrize("model_type", WRAPPERS)
def test_what_a_file_leaves_out_is_as_transformers_has_it(model_type: str) -> None:
    theirs = CONFIG_MAPPING[model_type](text_config={})
    text, _ = text_part(Fields(Path("config.json"), {"model_type": model_type, "text_config": {}}))
    kind = theirs.text_config.model_type
    assert text.text("model_type") == WRAPPERS[model_type].plain.get(kind, kind)
    for key in WRAPPERS[model_type].defaults:
        ropes = theirs.text_config.rope_parameters
        said = ropes[key] if key == "rope_theta" else getattr(theirs.text_config, key)
        assert text.raw(key) == said
    assert text.boolean("tie_word_embeddings") == theirs.tie_word_embeddings


@pytest.mark.parametrize(
    "make",
    [
        gemma3,
        gemma4,
        gemma4_unified,
        mistral3,
        ministral3,
        *(partial(other, name) for name in OTHERS),
    ],
    ids=name_of,
)
def test_text_parts(tmp_path: Path, make: Callable[[], PreTrainedModel]) -> None:
    """Served without their eyes, whose tensors are left where they are."""
    model = make()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    # Of Cohere's, transformers leaves the scale of the logits out, which its text class has.
    scale = getattr(model.config.text_config, "logit_scale", 1.0)
    check(save(model, tmp_path), theirs_of(model) * scale)


@pytest.mark.parametrize("flat", ["qwen2_vl", "qwen2_5_vl"])
def test_settings_beside_all_others(tmp_path: Path, flat: str) -> None:
    """As Qwen's own files have them, by the older names of tensors and rotary settings."""
    model = other(flat)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    path = save(model, tmp_path)
    config = json.loads((path / "config.json").read_text())
    text = config.pop("text_config")
    ropes = text.pop("rope_parameters")
    old = {"type": "mrope", "mrope_section": ropes["mrope_section"]}
    named = {"model_type": flat, "rope_theta": ropes["rope_theta"], "rope_scaling": old}
    (path / "config.json").write_text(json.dumps(config | text | named))
    tensors = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): tensor
        for name, tensor in load_file(path / "model.safetensors").items()
    }
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    check(path, theirs_of(model))


@pytest.mark.parametrize(("plain", "name"), [("qwen2", "qwen2vl"), ("qwen3", "qwen3vl")])
def test_text_parts_of_gguf_files(tmp_path: Path, plain: str, name: str) -> None:
    """llama.cpp keeps the eyes in a file of their own, and tells of sections here."""
    config = CONFIG_MAPPING[plain](**TEXT | {"head_dim": 8, "sliding_window": None})
    model = AutoModelForCausalLM.from_config(config).eval()
    theirs = theirs_of(model)
    model.config.model_type = name

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_dimension_sections([1, 1, 2, 0])
        if plain == "qwen3":
            writer.add_num_deepstack_layers(3)

    check(llama_gguf(model, tmp_path / "text.gguf", describe=describe), theirs)


@pytest.mark.parametrize("make", [gemma3, mistral3])
def test_ends_that_stand_in_the_text_part(
    tmp_path: Path, make: Callable[[], PreTrainedModel]
) -> None:
    """transformers 5 saves them there alone, and without them no answer ends. Those of the whole
    count first."""
    path = save(make(), tmp_path)
    (path / "generation_config.json").unlink(missing_ok=True)
    tokens = vocabularies.as_json(vocabularies.train("gpt2"))
    (path / "tokenizer.json").write_text(json.dumps(tokens))
    text = json.loads((path / "config.json").read_text())["text_config"]
    text |= {"vocab_size": 640, "eos_token_id": [1, 3], "bos_token_id": 2}
    change_config(path, text_config=text)
    tokenizer = open_checkpoint(path).tokenizer()
    assert (tokenizer.eos_token_ids, tokenizer.bos_token_id) == ({1, 3}, 2)
    change_config(path, eos_token_id=5, bos_token_id=4)
    tokenizer = open_checkpoint(path).tokenizer()
    assert (tokenizer.eos_token_ids, tokenizer.bos_token_id) == ({5}, 4)

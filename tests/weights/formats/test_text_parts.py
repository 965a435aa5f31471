"""Checkpoints whose tensors have other names, or a head that their config denies."""

import json
import logging
from collections.abc import Callable
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
)

from tests.architectures.expert_gguf import expert_gguf
from tests.architectures.running import load, logits
from tests.weights import vocabularies
from tests.weights.tiny import llama, llama_gguf, save
from tests.weights.wrappers.wholes import TEXT, make
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError

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


def renamed(path: Path, name_of: Callable[[str], str]) -> None:
    tensors = load_file(path / "model.safetensors")
    named = {name_of(name): tensor for name, tensor in tensors.items()}
    save_file(named, path / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    "wrapped",
    [
        "_orig_mod.{}",
        "module.{}",
        "module._orig_mod.{}",
        "base_model.model.{}",
        "_fsdp_wrapped_module._orig_mod.module.{}",
    ],
)
def test_names_that_a_trainer_left(tmp_path: Path, wrapped: str) -> None:
    model, path = small_llama(tmp_path)
    renamed(path, wrapped.format)
    check(path, theirs_of(model))


def test_names_that_a_trainer_left_within(tmp_path: Path) -> None:
    model, path = small_llama(tmp_path)
    renamed(path, lambda name: name.replace("layers.1.", "layers.1._checkpoint_wrapped_module."))
    check(path, theirs_of(model))
    tensors = load_file(path / "model.safetensors")
    twice = "model.layers._orig_mod.1.input_layernorm.weight"
    tensors[twice] = tensors["model.layers.1._checkpoint_wrapped_module.input_layernorm.weight"] + 0
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFormatError, match="without its trainer's prefix"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["MODEL.SAFETENSORS", "some weights [1] é.safetensors"])
def test_files_beside_the_weights(tmp_path: Path, name: str) -> None:
    """Hidden ones that another system left, an adapter's: neither is the model's."""
    model, path = small_llama(tmp_path)
    weights = path / "model.safetensors"
    (path / "._model.safetensors").write_bytes(b"fork" * 40)
    (path / "adapter_model.safetensors").write_bytes(weights.read_bytes())
    weights.rename(path / name)
    check(path, theirs_of(model))


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


def test_the_text_part_of_a_gguf_file_with_experts(tmp_path: Path) -> None:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    made: Any = CONFIG_MAPPING["qwen3_moe"]
    config = made(**TEXT | experts | {"head_dim": 8, "norm_topk_prob": True})
    classes: Any = AutoModelForCausalLM
    model = classes.from_config(config).eval()
    theirs = theirs_of(model)
    model.config.model_type = "qwen3_vl_moe"
    check(expert_gguf(model, tmp_path / "text.gguf"), theirs)


@pytest.mark.parametrize("name", ["gemma3", "mistral3"])
def test_ends_that_stand_in_the_text_part(tmp_path: Path, name: str) -> None:
    """transformers 5 saves them there alone, and without them no answer ends. Those of the whole
    count first."""
    path = save(make(name), tmp_path)
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

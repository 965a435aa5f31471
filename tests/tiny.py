"""Tiny random checkpoints in Hugging Face layout, written by `transformers` itself."""

import json
from pathlib import Path
from typing import TypeVar

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
)
from transformers.utils.logging import disable_progress_bar

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCAB_SIZE = 512
Model = TypeVar("Model", bound=PreTrainedModel)


def tiny_llama(
    path: Path, *, seed: int = 0, chat: bool = True, context: int = 256
) -> LlamaForCausalLM:
    """Two layers, four heads on two KV heads; an untrained chat model that never stops talking."""
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    return save(LlamaForCausalLM(config), path, chat)


def tiny_gpt2(path: Path, *, seed: int = 0, chat: bool = False) -> GPT2LMHeadModel:
    """Two layers of the classic: learned positions, LayerNorm, GELU, biases, tied head."""
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=128,
        n_embd=48,
        n_layer=2,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(seed)
    return save(GPT2LMHeadModel(config), path, chat)


def tiny_qwen3_5(path: Path, *, seed: int = 0, context: int = 256) -> Qwen3_5ForCausalLM:
    """Four layers, of which three keep a state."""
    config = Qwen3_5TextConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    return save(Qwen3_5ForCausalLM(config), path, True)


def save(model: Model, path: Path, chat: bool) -> Model:
    with (
        torch.no_grad()
    ):  # larger than the usual 0.02, so that answers differ from prompt to prompt
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, 0.15)
            elif "bias" in name:
                parameter.normal_(0.0, 0.05)
    disable_progress_bar()
    model.save_pretrained(path)
    save_tokenizer(path, chat)
    return model.eval()


def save_tokenizer(path: Path, chat: bool) -> None:
    """A byte-level BPE trained on a few sentences, in GPT-2's manner."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>" if chat else "<|endoftext|>",
    }
    if chat:
        settings["chat_template"] = CHAT_TEMPLATE
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def corpus() -> list[str]:
    return [
        "Greasy fried noodles will be my lunch, and yours will be the same as ever.",
        "Attention is one third of a transformer's weights, and this server lets you see it.",
        "The quick brown fox jumps over the lazy dog; the dog does not mind at all.",
        "def add(left, right):\n    return left + right\n",
    ]

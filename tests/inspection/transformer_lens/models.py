"""Tiny models whose every weight is a formula's: the same in any environment."""

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

VOCAB_SIZE = 97
SIZES = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
CONFIGS: dict[str, PretrainedConfig] = {
    "gpt2": GPT2Config(vocab_size=VOCAB_SIZE, n_positions=64, n_embd=32, n_layer=3, n_head=4),
    "llama": LlamaConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
}
TEXT = [(7 * i * i + 3 * i + 1) % VOCAB_SIZE for i in range(12)]
OTHER = [(5 * i * i + 2 * i + 8) % VOCAB_SIZE for i in range(12)]
COMPARED = [11, 60]  # a logit less the other


def formula_model(name: str) -> PreTrainedModel:
    """One of CONFIGS; norms' weights lie around 1, all others around 0."""
    model = AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="eager").eval()
    with torch.no_grad():
        for number, (key, weight) in enumerate(model.named_parameters()):
            steps = torch.arange(1, weight.numel() + 1, dtype=torch.float64)
            wave = torch.sin(steps * 12.9898 + number).view_as(weight)
            is_norm = weight.dim() == 1 and key.endswith("weight")
            weight.copy_(1 + 0.2 * wave if is_norm else 0.3 * wave)
    return model

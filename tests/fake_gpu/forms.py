"""Ways in which a model may be served on a GPU, by name."""

from dataclasses import dataclass, replace

import torch

from tests.model.tiny import DELTA, HYBRID, LATENT, MAMBA, MIXED
from thirdeye.model.config import ModelConfig, RopeConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.linear.rounded import FP8
from thirdeye.server.bench.model_shapes import LLAMA3_8B

# An 8B model's kinds of layers, with as few channels as its formats take.
SMALL_8B = replace(
    LLAMA3_8B,
    num_hidden_layers=1,
    hidden_size=128,
    intermediate_size=256,
    vocab_size=1024,
    num_heads=8,
    num_kv_heads=2,
    head_dim=32,
    rope=RopeConfig(theta=10_000.0, dim=32),
)
# Layers that keep a state, of each kind, beside one that attends.
WITH_STATES = {
    name: replace(config, vocab_size=1024, max_position_embeddings=8192, hidden_size=64)
    for name, config in (("short convolution", HYBRID), ("delta net", DELTA), ("mamba", MAMBA))
}


@dataclass(frozen=True, slots=True)
class ServedForm:
    """How a model is served."""

    config: ModelConfig = SMALL_8B
    quantize: str = "none"
    kv_dtype: torch.dtype = torch.bfloat16
    is_deterministic: bool = False
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_model_len: int = 8192
    num_draft_tokens: int = 0
    is_drafted: bool = False  # by a model like itself, alone


FORMS = {
    "bf16": ServedForm(),
    "int8": ServedForm(quantize="int8"),
    "int4": ServedForm(quantize="int4"),
    "fp8": ServedForm(quantize="fp8"),
    "fp8 KV": ServedForm(kv_dtype=FP8),
    "deterministic": ServedForm(replace(SMALL_8B, intermediate_size=2048), is_deterministic=True),
    "experts": ServedForm(
        replace(SMALL_8B, experts=ExpertsSpec(num_experts=8, num_chosen=3, intermediate_size=128))
    ),
    "latents": ServedForm(
        replace(LATENT, vocab_size=1024, max_position_embeddings=8192, hidden_size=64)
    ),
    "guesses": ServedForm(num_draft_tokens=5),
    "draft": ServedForm(max_num_seqs=16, num_draft_tokens=5, is_drafted=True),
    "few rows": ServedForm(quantize="int8", max_num_seqs=4),
    "kinds of layers": ServedForm(
        replace(MIXED, vocab_size=1024, max_position_embeddings=8192, hidden_size=64)
    ),
    **{name: ServedForm(config, max_num_seqs=8) for name, config in WITH_STATES.items()},
}
TRIED = ("bf16", "guesses", "draft", "few rows", "delta net")  # whose graphs a trial finds, too

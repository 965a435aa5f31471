"""What `thirdeye bench engine` measures, and what no engine could be quicker than: shapes by name,
the workload of nano-vllm, the bytes that a step must read and the operations that a prompt takes.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.parameter_counts import idle_parameters, parameter_counts
from thirdeye.server.bench.model_shapes import SHAPES
from thirdeye.weights.checkpoint import open_checkpoint


def read_shape(name: str) -> ModelConfig:
    """A known shape, or that of a checkpoint. Raises ValueError or OSError if there is none."""
    if name in SHAPES:
        return SHAPES[name]
    if not Path(name).exists():
        raise ValueError(f"'--shape' must be one of {', '.join(SHAPES)} or a path, got '{name}'.")
    return open_checkpoint(Path(name)).config


def weight_bytes_per_step(config: ModelConfig, dtype: torch.dtype) -> int:
    """All weights but those that are looked up: a tied embedding is read as the head. Of experts,
    those that one token takes."""
    counts = parameter_counts(config)
    looked_up = counts.positions + (0 if config.tie_word_embeddings else counts.embeddings)
    return (counts.total - looked_up - idle_parameters(config)) * dtype.itemsize


def prefill_operations(config: ModelConfig, num_tokens: int) -> int:
    """Of a prompt: 2 for each weight and token, less the head, which one row passes; and causal
    attention, half of all pairs scored and mixed."""
    counts = parameter_counts(config)
    blocks = counts.attention + counts.state + counts.mlp + counts.router - idle_parameters(config)
    head = config.vocab_size * config.hidden_size
    heads = config.num_heads * sum(map(config.head_dim_of, config.attending_layers))
    return 2 * (blocks * num_tokens + head) + 2 * num_tokens**2 * heads


def nano_vllm(num_sequences: int) -> Iterator[tuple[list[int], int]]:
    """(prompt, number of output tokens) of nano-vllm's `bench.py`: its seed, its order of draws.

    Its 256 sequences have 142,827 prompt tokens and 133,966 output tokens.
    """
    draw = random.Random(0)
    prompts = [
        [draw.randint(0, 10000) for _ in range(draw.randint(100, 1024))]
        for _ in range(num_sequences)
    ]
    yield from ((prompt, draw.randint(100, 1024)) for prompt in prompts)

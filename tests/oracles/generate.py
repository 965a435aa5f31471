"""Reference generate: no cache, no batch, every position computed anew for every token.

It reads a `Transformer`'s parameters and nothing else of it: embedding, norms, rotation, attention
and MLP are written out again here, straight from the papers, in fp32. Whatever the engine does
with caches, chunks and batches, its greedy tokens must be these.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.config import Activation, Alibi, AttentionSpec, ModelConfig, Norm, RopeConfig
from thirdeye.model.parts.rope import inverse_frequencies
from thirdeye.model.transformer import Transformer


def generate(model: Transformer, prompt: list[int], num_tokens: int) -> list[int]:
    """The `num_tokens` likeliest tokens after the prompt, one by one."""
    token_ids = list(prompt)
    for _ in range(num_tokens):
        token_ids.append(int(logits(model, token_ids)[-1].argmax()))
    return token_ids[len(prompt) :]


@torch.inference_mode()
def logits(model: Transformer, token_ids: list[int]) -> Tensor:
    """Next-token logits at every position: [len(token_ids), vocab_size]."""
    *_, last = layers(model, token_ids)
    return head(model, last.resid_post)


@dataclass(frozen=True)
class Layer:
    """What one block did to n tokens, under the probe's names (`model/inspection/probe.py`)."""

    pattern: Tensor  # [num_heads, n, n]
    resid_pre: Tensor  # [n, hidden_size], and so are the four below
    attn_out: Tensor
    resid_mid: Tensor
    mlp_out: Tensor
    resid_post: Tensor


@torch.inference_mode()
def layers(model: Transformer, token_ids: list[int]) -> Iterator[Layer]:
    """Block after block."""
    config = model.config
    weights = {name: dense(parameter) for name, parameter in model.named_parameters()}
    x = weights["embed_tokens.weight"][token_ids]
    if config.has_learned_positions:
        x = x + weights["embed_positions.weight"][: len(token_ids)]
    for layer in range(config.num_hidden_layers):
        prefix = f"blocks.{layer}."
        block = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        spec, normed = config.attention_of(layer), _norm(config, block, "attention_norm", x)
        attn_out, pattern = _attention(config, spec, block, normed)
        resid_mid = x + attn_out
        mlp_out = _mlp(config, block, _norm(config, block, "mlp_norm", resid_mid))
        yield Layer(pattern, x, attn_out, resid_mid, mlp_out, resid_mid + mlp_out)
        x = resid_mid + mlp_out


@torch.inference_mode()
def head(model: Transformer, x: Tensor) -> Tensor:
    """The final norm and the head: [n, hidden_size] -> [n, vocab_size]."""
    weights = {name: dense(parameter) for name, parameter in model.named_parameters()}
    table = weights.get("lm_head.weight", weights["embed_tokens.weight"])
    return _norm(model.config, weights, "final_norm", x) @ table.T


def dense(parameter: Tensor) -> Tensor:
    """A parameter in fp32, out of the packed form that a linear layer may keep it in."""
    return (parameter.to_dense() if parameter.is_mkldnn else parameter).float()


def _norm(config: ModelConfig, weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    if config.norm is Norm.LAYER_NORM:
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt()
    return x * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0.0)


def _linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def _attention(
    config: ModelConfig, spec: AttentionSpec, weights: dict[str, Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    """x [n, hidden_size] -> what attention adds to the stream, and the pattern."""
    length, width = len(x), config.num_heads * config.head_dim
    kv_width = config.num_kv_heads * config.head_dim
    q, k, v = _linear(weights, "attention.qkv", x).split([width, kv_width, kv_width], dim=-1)
    scale = config.head_dim**-0.5 if spec.scale is None else spec.scale
    mixed, pattern = torch.empty(length, width), torch.zeros(config.num_heads, length, length)
    for head in range(config.num_heads):
        kv_head = head * config.num_kv_heads // config.num_heads
        own, shared = (
            slice(h * config.head_dim, (h + 1) * config.head_dim) for h in (head, kv_head)
        )
        query, key = _rotate(spec.rope, q[:, own]), _rotate(spec.rope, k[:, shared])
        for i in range(length):
            first = 0 if spec.window is None else max(0, i + 1 - spec.window)
            if spec.chunk is not None:
                first = max(first, i - i % spec.chunk)
            seen = slice(first, i + 1)
            scores = key[seen] @ query[i] * scale
            if spec.softcap is not None:
                scores = spec.softcap * torch.tanh(scores / spec.softcap)
            if spec.alibi is not None:
                distances = torch.arange(len(scores) - 1, -1, -1)
                scores = scores - slope(spec.alibi, head, config.num_heads) * distances
            exponentials = scores.exp()
            total = exponentials.sum()
            if spec.sinks:
                total = total + weights["attention.sinks.weight"][head].exp()
            pattern[head, i, seen] = exponentials / total
            mixed[i, own] = pattern[head, i, seen] @ v[seen, shared]
    return _linear(weights, "attention.output", mixed), pattern


def slope(alibi: Alibi, head: int, num_heads: int) -> float:
    """Of head 0, 1, ...: as the paper's code has them, which fills up to any number of heads."""
    if num_heads & (num_heads - 1) == 0:
        return alibi.scale * 2 ** (-alibi.max_bias * (head + 1) / num_heads)
    fewer = 1 << (num_heads.bit_length() - 1)
    if head < fewer:
        return slope(alibi, head, fewer)
    return slope(alibi, 2 * (head - fewer), 2 * fewer)


def _rotate(rope: RopeConfig | None, x: Tensor) -> Tensor:
    """Channels (i, i + dim / 2) are one complex number, turned by position * frequency."""
    if rope is None:
        return x
    half = rope.dim // 2
    angles = torch.outer(torch.arange(len(x)).float(), inverse_frequencies(rope, len(x)))
    pairs = torch.complex(x[:, :half], x[:, half : 2 * half])
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag, x[:, 2 * half :]), dim=-1)


def _mlp(config: ModelConfig, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    act = {
        Activation.GELU: F.gelu,
        Activation.GELU_TANH: lambda y: F.gelu(y, approximate="tanh"),
        Activation.SILU: F.silu,
    }[config.activation]
    if config.gated_mlp:
        gate, up = _linear(weights, "mlp.gate_up", x).split(config.intermediate_size, dim=-1)
        wide = act(gate) * up
    else:
        wide = act(_linear(weights, "mlp.up", x))
    return _linear(weights, "mlp.down", wide)

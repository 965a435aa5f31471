"""The gated delta rule (Yang, Kautz, Hatamizadeh 2024, "Gated Delta Networks"), token by token.

    S <- e^g S;  S <- S + k (beta (v - S^T k))^T;  o = S^T q

A state [key_size, value_size] a head, which forgets by e^g, is asked by a key what it says, and is
corrected by how far that is from the value. The textbook of `model/native/states/delta_kernel.py`.
Each token is a step of its own, of one shape, so that its bits depend neither on how its prompt is
cut nor on its company.
"""

import math

import torch
from torch import Tensor

from thirdeye.model.state.state_cache import ZEROS, StateSpans
from thirdeye.model.state_spec import DeltaNetSpec

EPS = 1e-6  # below the root of a vector's length
LINEAR = 20.0  # from here on softplus(x) is x


def delta_rule(
    qkv: Tensor, decay: Tensor, beta: Tensor, spec: DeltaNetSpec, cache: Tensor, plan: StateSpans
) -> Tensor:
    """qkv [T, channels], decay (which is e^g) and beta [T, value heads], cache [num_states, value
    heads, key_size, value_size] -> o [T, value heads, value_size]; all float32."""
    query, key, value = _heads(qkv, spec)
    output = torch.empty_like(value)
    for first, count, source, target in plan.spans.tolist():
        state = torch.zeros_like(cache[target]) if source == ZEROS else cache[source]
        for t in range(first, first + count):
            state = state * decay[t, :, None, None]
            says = (state * key[t, :, :, None]).sum(1)  # [value heads, value_size]
            delta = (value[t] - says) * beta[t, :, None]
            state = state + key[t, :, :, None] * delta[:, None, :]
            output[t] = (state * query[t, :, :, None]).sum(1)
        cache[target] = state
    return output


def _heads(qkv: Tensor, spec: DeltaNetSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys of length 1 for each value head, [T, value heads, key_size], and values."""
    keys = spec.num_key_heads * spec.key_size
    query, key, value = qkv.tensor_split([keys, 2 * keys], dim=-1)
    query, key = (_unit(x.reshape(len(x), -1, spec.key_size)) for x in (query, key))
    of_value_head = torch.tensor(spec.key_heads(), device=qkv.device)
    query = query[:, of_value_head] / math.sqrt(spec.key_size)
    return query, key[:, of_value_head], value.reshape(len(value), -1, spec.value_size)


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + EPS)


def softplus(x: Tensor) -> Tensor:
    """ln(1 + e^x), each element rounded alike, which torch's own does not do on a CPU."""
    return torch.where(x > LINEAR, x, x.clamp(max=LINEAR).exp().log1p())

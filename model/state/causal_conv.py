"""A causal convolution over a ragged step, each channel by itself.

    y[t] = sum_k w[k] x[t - K + 1 + k], k = 0 ... K - 1

The textbook of `model/native/states/conv_kernel.py`. Sums are made in one order, tap by tap, so a
token's bits depend neither on how its prompt is cut nor on its company.
"""

import torch
from torch import Tensor

from thirdeye.model.state.state_cache import ZEROS, StateSpans


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, cache: Tensor, plan: StateSpans
) -> Tensor:
    """x [T, channels], weight [channels, K], cache [num_states, K - 1, channels], in which the last
    inputs are kept, oldest first -> [T, channels] float32."""
    wide, taps = x.float(), weight.float().t()  # [K, channels]
    output = torch.empty_like(wide)
    num_past = len(taps) - 1
    for first, count, source, target in plan.spans.tolist():
        past = torch.zeros_like(cache[target]) if source == ZEROS else cache[source]
        seen = torch.cat((past, wide[first : first + count]))  # [K - 1 + count, channels]
        total = seen[:count] * taps[0]
        for tap in range(1, len(taps)):
            total = total + seen[tap : tap + count] * taps[tap]
        output[first : first + count] = total if bias is None else total + bias.float()
        cache[target] = seen[len(seen) - num_past :]
    return output

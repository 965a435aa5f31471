"""The selective state space of Mamba-2 (Dao, Gu 2024, "Transformers are SSMs"), token by token.

    S <- e^(dt A) S + B (dt x)^T;  y = S^T C + D x

A state [state_size, head_size] a head, which forgets by its own pace A < 0 times the step dt that
the token asks for, is written to by B and read by C, both shared by a group of heads. The textbook
of `model/native/states/mamba_kernel.py`. Each token is a step of its own, of one shape, so that its
bits depend neither on how its prompt is cut nor on its company.
"""

from torch import Tensor, zeros_like

from thirdeye.model.state.state_cache import ZEROS, StateSpans
from thirdeye.model.state_spec import Mamba2Spec


def selective_scan(
    seen: Tensor,
    steps: Tensor,
    decay: Tensor,
    skip: Tensor,
    spec: Mamba2Spec,
    cache: Tensor,
    plan: StateSpans,
) -> Tensor:
    """seen [T, channels] which are x, B and C, steps (which are dt) [T, heads], decay (A) and skip
    (D) [heads], cache [num_states, heads, state_size, head_size] -> y [T, heads, head_size]; all
    float32."""
    x, b, c = seen.tensor_split([spec.width, spec.width + spec.num_groups * spec.state_size], -1)
    x = x.reshape(len(x), -1, spec.head_size)  # [T, heads, head_size]
    share = spec.num_heads // spec.num_groups
    b, c = (
        of_groups.reshape(len(x), -1, spec.state_size).repeat_interleave(share, 1)
        for of_groups in (b, c)
    )  # [T, heads, state_size]
    kept = (steps * decay).exp()  # [T, heads]
    written = x * steps[..., None]
    output = x * skip[:, None]
    for first, count, source, target in plan.spans.tolist():
        state = zeros_like(cache[target]) if source == ZEROS else cache[source]
        for t in range(first, first + count):
            state = state * kept[t, :, None, None] + b[t, :, :, None] * written[t, :, None, :]
            output[t] = output[t] + (state * c[t, :, :, None]).sum(1)
        cache[target] = state
    return output

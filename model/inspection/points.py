"""What a trace has at a point of the model: the numbers that an edit there would change."""

import torch
from torch import Tensor

from thirdeye.model.inspection.latent.latent_heads import latent_point
from thirdeye.model.inspection.probe import LayerTrace


def read_point(trace: LayerTrace, at: str, index: int) -> Tensor:
    """[n, width], as `edits.POINTS` say, of the head, key/value head or neuron `index` of the whole
    model; zeros, if that is another rank's, which alone is going to edit it."""
    rank = trace.ranks.rank
    if at == "head":
        return _own(trace.z, index, rank)
    if at == "kv_head" and trace.block.self_attention.spec.latent:
        return _own(latent_point(trace), index, rank)
    if at == "kv_head":
        _, key, value = trace.block.self_attention.unturned(trace.normed)
        return _own(torch.cat((key, value), dim=-1), index, rank)
    if at == "neuron":
        assert trace.neurons is not None, "this layer has none"
        return _own(trace.neurons[..., None], index, rank)
    if at == "pattern":
        own = index - rank * trace.num_heads
        if not 0 <= own < trace.num_heads:
            return trace.query.new_zeros(len(trace.query), len(trace.query))
        return trace.own_pattern([own])[0]
    stream: Tensor = getattr(trace, at)
    return stream


def _own(values: Tensor, index: int, rank: int) -> Tensor:
    """One of values [n, this rank's, width]."""
    own = index - rank * values.shape[1]
    return values[:, own] if 0 <= own < values.shape[1] else torch.zeros_like(values[:, 0])

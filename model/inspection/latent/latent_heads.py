"""What a trace tells of each head where attention is over latents: queries, keys and values that
are made for the look (`head_matrices.py`), or that were edited (`made_heads.py`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thirdeye.model.inspection.heads import scores_of
from thirdeye.model.inspection.latent.head_matrices import HeadMatrices
from thirdeye.model.inspection.probe import LayerTrace

NAMES = ("q", "k", "v", "rot_q", "rot_k", "value_norms")  # what is told of them


class LatentHeads:
    """Of one layer; of its heads this rank's own."""

    def __init__(self, trace: LayerTrace) -> None:
        self._trace = trace
        self._made = HeadMatrices(trace.block.self_attention, trace.z)

    def vectors(self, name: str, rows: Sequence[int]) -> Tensor:
        """One of NAMES (of the last, values as they are kept), [rows, num_heads, size of it]."""
        trace, made = self._trace, self._made
        if name == "q":
            return made.queries(trace.normed[rows])
        if name == "rot_q":
            scale = None if trace.query_scale is None else trace.query_scale[rows]
            return made.turned_queries(trace.query[rows], trace.normed[rows], scale)
        if name in ("k", "v"):
            return self._unturned(name, rows)
        is_key = name == "rot_k"
        vectors = (made.keys if is_key else made.values)(trace.keys[rows])
        for head, edited in trace.made_heads.items():
            vectors[:, head] = (edited.keys if is_key else edited.values)[rows]
        return vectors

    def _unturned(self, name: str, rows: Sequence[int]) -> Tensor:
        """As they are projected, or edited."""
        trace, made = self._trace, self._made
        if trace.key_value is not None:
            size = made.spec.head_size
            key, value = trace.key_value[rows].tensor_split([size], dim=-1)
            return key if name == "k" else value
        kept = made.latents(trace.normed[rows])
        return made.keys(kept) if name == "k" else made.values(kept)


def latent_point(trace: LayerTrace) -> Tensor:
    """What `edits.POINTS` call a key/value head, of all: [n, num_heads, key and value]."""
    heads, rows = LatentHeads(trace), range(len(trace.keys))
    return torch.cat((heads.vectors("k", rows), heads.vectors("v", rows)), dim=-1)


def with_made_heads(
    scores: Tensor, trace: LayerTrace, heads: Sequence[int], is_masked: bool
) -> Tensor:
    """scores [heads, n, n] of these of this rank's heads; of the edited ones by their own keys."""
    if not trace.made_heads:
        return scores
    asked = LatentHeads(trace).vectors("rot_q", range(len(trace.query)))
    for place, head in enumerate(heads):
        if head in trace.made_heads:
            keys, attention = trace.made_heads[head].keys, trace.block.self_attention
            scores[place] = scores_of(attention, asked[:, head], keys, head, is_masked)
    return scores

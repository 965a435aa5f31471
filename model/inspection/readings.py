"""What a layer's trace tells, array by array, in bounded pieces.

Each is computed from the trace when it is asked for. Heads are told in the order of `heads`, keys
and values in that of the key/value heads these look at, rows in that of `positions`.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.inspection.heads import (
    head_results,
    head_scores,
    is_kept_as_projected,
    kv_head_of,
)
from thirdeye.model.inspection.latent.latent_heads import NAMES as OF_LATENTS
from thirdeye.model.inspection.latent.latent_heads import LatentHeads, with_made_heads
from thirdeye.model.inspection.measures.gated_values import gated_lengths
from thirdeye.model.inspection.norms import norm_stats
from thirdeye.model.inspection.probe import LayerTrace

HEADS_AT_ONCE = 4  # through the output layer: less than a piece of a block costs
PROJECTED = ("q", "k", "v")
UNTURNED = ("q_normed", "k_normed", "v_normed")
KEPT = {"rot_q": "query", "rot_k": "keys", "z": "z"}  # their names in a trace
OF_HEADS = (*PROJECTED, *UNTURNED, *KEPT, "result", "value_norms")

Pieces = Generator[None, None, Tensor]


@dataclass(frozen=True, slots=True)
class Selection:
    """What of each layer is told."""

    heads: tuple[int, ...]  # query heads, of the whole model
    positions: tuple[int, ...]
    is_masked: bool = True  # scores of keys that a query may not see are NaN
    num_neurons: int = 10  # the largest of each token


class Readings:
    """Of the layers of one text. None of its parts needs another."""

    def __init__(self, selection: Selection, max_rows: int) -> None:
        """`max_rows`: of a piece, as in `trace_layers`."""
        self._chosen, self._max_rows = selection, max_rows
        self._heads, self._rows = list(selection.heads), list(selection.positions)

    def array(self, trace: LayerTrace, name: str) -> Pieces:
        """fp32 or the model's own dtype; each yield is the end of a piece."""
        if name in ("pattern", "scores"):
            return (yield from self._by_query(trace, name))
        if name in OF_HEADS and not trace.num_heads:  # it does not attend
            width = (len(trace.query),) if name == "value_norms" else (len(self._rows), 1)
            return trace.query.new_empty(0, *width)
        if name in OF_LATENTS and trace.block.self_attention.spec.latent:
            return (yield from self._of_latents(trace, name))
        if name in PROJECTED or name in UNTURNED:
            return (yield from self._unturned(trace, name))
        if name == "result":
            z = trace.gated(self._rows).view(len(self._rows), *trace.z.shape[1:])
            return (yield from self._results(trace, z))
        if name == "value_norms" and trace.block.self_attention.gate is not None:
            return (yield from self._gated_values(trace))
        if name == "value_norms":
            return (yield from self._results(trace, _repeated(trace))).float().norm(dim=-1)
        if name in KEPT:
            return self._by_head(trace, getattr(trace, KEPT[name]), name == "rot_k")
        if name == "neurons":
            return self._neurons(trace)
        if name == "routing":
            return self._routing(trace)
        if name in ("norms", "norm_stats"):
            stats = trace.norms() if name == "norms" else norm_stats(trace)
            return stats[:, self._rows]
        stream: Tensor = getattr(trace, name)
        return stream[self._rows]

    def _by_query(self, trace: LayerTrace, name: str) -> Pieces:
        """[heads, positions, n]: some heads at a time, as many as a piece may cost."""
        if not trace.num_heads:  # it does not attend
            yield
            return trace.own_pattern([])[:, self._rows]
        attention = trace.block.self_attention
        is_whole = trace.ranks.size > 1  # then all of them, for all ranks do alike
        own = list(range(attention.num_heads)) if is_whole else self._heads
        at_once = max(1, 8 * self._max_rows // len(trace.query))
        parts = []
        for first in range(0, len(own), at_once):
            heads = own[first : first + at_once]
            if name == "pattern":
                part = trace.own_pattern(heads)
            else:
                keys, is_masked = trace.keys, self._chosen.is_masked
                part = head_scores(attention, trace.query, keys, heads, is_masked)
                part = with_made_heads(part, trace, heads, is_masked)
            parts.append(part[:, self._rows])
            yield
        found = trace.ranks.gather(torch.cat(parts), dim=0)
        return found[self._heads] if is_whole else found

    def _unturned(self, trace: LayerTrace, name: str) -> Pieces:
        """Queries, keys or values [heads, positions, head_dim], as they are projected or right
        before they are turned; of keys and values none in a layer that reads another's."""
        attention, parts, part = trace.block.self_attention, [], name[0]
        make = attention.projected if name in PROJECTED else attention.unturned
        for start in range(0, len(self._rows), self._max_rows):
            rows = self._rows[start : start + self._max_rows]
            parts.append(make(trace.normed[rows])[PROJECTED.index(part)])
            yield
        vectors = torch.cat(parts)
        if part != "q" and not attention.layout.num_kv_heads:
            return vectors.transpose(0, 1)
        is_edited = trace.key_value is not None and part != "q"
        if is_edited and (name in UNTURNED or is_kept_as_projected(attention, part)):
            assert trace.key_value is not None
            vectors = trace.key_value[self._rows].chunk(2, dim=-1)[part == "v"]
        return self._chosen_heads(trace, vectors, part != "q")

    def _of_latents(self, trace: LayerTrace, name: str) -> Pieces:
        """The same where heads keep no vectors of their own; `value_norms` [heads, n]."""
        heads, parts = LatentHeads(trace), []
        is_lengths = name == "value_norms"
        places = list(range(len(trace.keys))) if is_lengths else self._rows
        for start in range(0, len(places), self._max_rows):
            parts.append(heads.vectors(name, places[start : start + self._max_rows]))
            yield
        if is_lengths:
            return (yield from self._results(trace, torch.cat(parts))).float().norm(dim=-1)
        return self._chosen_heads(trace, torch.cat(parts), is_kv=False)

    def _gated_values(self, trace: LayerTrace) -> Pieces:
        """`value_norms` [heads, positions, n], of each token that looks."""
        attention, gather = trace.block.self_attention, trace.ranks.gather
        open_wide = torch.ones_like(trace.z[self._rows].flatten(1))
        gates = attention.through_gate(open_wide, trace.normed[self._rows])
        gates = gather(gates.view(len(self._rows), trace.num_heads, -1), dim=1)
        values = gather(_repeated(trace), dim=1)
        size = trace.z.shape[-1]
        units = torch.eye(size).to(trace.z)[:, None].expand(-1, trace.num_heads, -1)
        columns = yield from self._results(trace, units)  # [heads, size, hidden_size]
        found = []
        for place, head in enumerate(self._heads):
            own = gates[:, head], values[:, head], columns[place]
            found.append((yield from gated_lengths(*own, self._max_rows)))
        return torch.stack(found)

    def _by_head(self, trace: LayerTrace, vectors: Tensor, is_kv: bool) -> Tensor:
        return self._chosen_heads(trace, vectors[self._rows], is_kv)

    def _chosen_heads(self, trace: LayerTrace, vectors: Tensor, is_kv: bool) -> Tensor:
        """[positions, this rank's heads, head_dim] -> [heads, positions, head_dim]."""
        whole = trace.ranks.gather(vectors, dim=1)
        heads = kv_heads(trace, self._heads) if is_kv else self._heads
        return whole[:, heads].transpose(0, 1)

    def _results(self, trace: LayerTrace, vectors: Tensor) -> Pieces:
        """vectors [m, this rank's heads, head_dim] -> [heads, m, hidden_size]."""
        attention, rank, parts = trace.block.self_attention, trace.ranks.rank, []
        for first in range(0, len(self._heads), HEADS_AT_ONCE):
            heads = self._heads[first : first + HEADS_AT_ONCE]
            pieces = torch.split(vectors, self._max_rows)
            found = []
            for piece in pieces:
                found.append(head_results(attention, piece, heads, rank))
                yield
            parts.append(torch.cat(found, dim=1))
        return torch.cat(parts)

    def _neurons(self, trace: LayerTrace) -> Tensor:
        """[positions, rank, 2]: which, and how much, the farthest from 0 first; of a layer of
        experts, or without an MLP, none."""
        if trace.neurons is None:
            return trace.resid_pre.new_empty(len(self._rows), 0, 2)
        whole = trace.ranks.gather(trace.neurons[self._rows], dim=1).float()
        found = whole.abs().topk(min(self._chosen.num_neurons, whole.shape[1]), dim=1).indices
        return torch.stack((found.float(), whole.gather(1, found)), dim=-1)

    def _routing(self, trace: LayerTrace) -> Tensor:
        """[positions, rank, 2]: which experts each token asks, and what each weighs, best first; of
        a layer that has one MLP for all, none."""
        routing = trace.routing
        if routing is None:
            return trace.resid_pre.new_empty(len(self._rows), 0, 2)
        chosen = routing.chosen[self._rows].float()
        return torch.stack((chosen, routing.weights[self._rows].float()), dim=-1)


def kv_heads(trace: LayerTrace, heads: Sequence[int]) -> list[int]:
    """The key/value heads that these query heads look at, each once."""
    return list(dict.fromkeys(kv_head_of(trace.block.self_attention, head) for head in heads))


def _repeated(trace: LayerTrace) -> Tensor:
    """Values [n, num_kv_heads, head_dim] for each query head that looks at them."""
    attention = trace.block.self_attention
    group = attention.num_heads // attention.num_kv_heads
    return trace.values.repeat_interleave(group, dim=1).to(trace.z.dtype)

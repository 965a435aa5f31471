"""Many edits of one text, each by itself: a sweep.

A variant begins at the first layer it edits, with the unedited text's stream there; or further in
front, at the first whose keys a later one reads. Variants that
are small are computed beside each other, up to the rows of a piece; attention is each one's own, so
on a CPU a variant's bits are those that it has alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.inspection.block_run import BlockRun
from thirdeye.model.inspection.edits import Edit, Put, TextEdits
from thirdeye.model.inspection.latent.made_heads import MadeCache
from thirdeye.model.inspection.probe import OneLayerCache, start_of_stream
from thirdeye.model.inspection.seeded import seeded
from thirdeye.model.inspection.text_rows import TextRows
from thirdeye.model.transformer import Transformer

Edits = tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class BaseRun:
    """A text as it is: its ids [n], and the stream [n, hidden_size] before each layer."""

    input_ids: Tensor
    resid_pre: Sequence[Tensor]  # of no layer, for variants that begin with the embeddings


def first_layer(edits: Edits) -> int:
    """Where a variant begins; -1: with its embeddings."""
    return min(-1 if edit.at == "embed" else edit.layer for edit in edits)


def first_read(model: Transformer, layer: int) -> int:
    """Where to begin for `layer`: it, or the first in front of it whose keys it or a later one
    reads."""
    config = model.config
    later = range(max(layer, 0), config.num_hidden_layers)
    sources = [config.attention_of(n).source for n in later if n in config.attending_layers]
    return min([layer, *(source for source in sources if source is not None)])


def run_variants(
    model: Transformer,
    base: BaseRun,
    variants: Sequence[Edits],
    max_rows: int,
    kv_dtype: torch.dtype | None,
) -> Iterator[tuple[list[int], Tensor] | None]:
    """(numbers of variants, their streams behind the last block [variants, n, hidden_size]) as they
    are done, each variant once; None between pieces."""
    num_tokens = len(base.input_ids)
    at_once = max(1, max_rows // num_tokens)
    order = sorted(range(len(variants)), key=lambda number: first_layer(variants[number]))
    for start in range(0, len(order), at_once):
        numbers = order[start : start + at_once]
        group = [variants[number] for number in numbers]
        first = first_read(model, first_layer(group[0]))
        x = torch.cat([_beginning(model, base, edits, first) for edits in group])
        told = _told(model, base, group)
        edits = TextEdits(group)
        whole = TextRows(0, num_tokens, num_tokens, len(group))
        cache = OneLayerCache(model, whole, kv_dtype, x)
        made: MadeCache = {}
        for layer in range(max(first, 0), len(model.blocks)):
            parts = []
            for rows in [whole] if len(group) > 1 else whole.pieces(max_rows):
                own = slice(None) if rows == whole else slice(rows.start, rows.stop)
                inputs = None if told is None else told[:, own]
                run = BlockRun(model, layer, rows, cache, edits, inputs, made)
                parts.append(run(x[own]).resid_post)
                yield None
            x = torch.cat(parts)
        yield numbers, x.view(len(group), num_tokens, -1)


def _told(model: Transformer, base: BaseRun, group: Sequence[Edits]) -> Tensor | None:
    """What layers are told of the tokens of each variant, [num_layers, variants * n, size]."""
    if model.layer_inputs is None:
        return None
    streams = [start_of_stream(model, base.input_ids, edits) for edits in group]
    return torch.cat([model.layer_inputs(base.input_ids, x) for x in streams], dim=1)


def _beginning(model: Transformer, base: BaseRun, edits: Edits, layer: int) -> Tensor:
    if layer < 0:
        return start_of_stream(model, base.input_ids, edits)
    return base.resid_pre[layer]


def noisy(model: Transformer, input_ids: Tensor, num_runs: int) -> list[Edits]:
    """Variants that change nothing but roundings: each embedding times 1 + 1e-6 N(0, 1), by seeds
    0, 1, ...: what comes of that is the floor below which an effect says nothing."""
    x = model.embed_text(input_ids)
    found: list[Edits] = []
    for seed in range(num_runs):
        generator = seeded(seed)
        noise = torch.randn(x.shape, generator=generator).to(x.device)
        found.append((Edit("embed", Put((x.float() * (1 + 1e-6 * noise)).to(x.dtype))),))
    return found

"""A text goes on, greedily, with edits or without: token by token, alone, in keys and values of its
own."""

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from thirdeye.model.inspection.block_run import BlockRun
from thirdeye.model.inspection.edits import Edit, TextEdits
from thirdeye.model.inspection.latent.made_heads import MadeCache
from thirdeye.model.inspection.probe import start_of_stream, trace_layers
from thirdeye.model.inspection.text_rows import BLOCK_SIZE, TextRows
from thirdeye.model.parallel.shares import rank_config
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.transformer import Transformer


def continued(
    model: Transformer,
    input_ids: Tensor,
    num_new: int,
    max_rows: int,
    kv_dtype: torch.dtype | None,
    edits: Sequence[Edit] = (),
) -> Generator[None, None, list[int]]:
    """The `num_new` likeliest tokens behind ids [n], one by one. Edits of every position are also
    of the new ones."""
    num_tokens = len(input_ids) + num_new
    num_blocks = -(-num_tokens // BLOCK_SIZE)
    dtype = kv_dtype or model.embed_text(input_ids[:1]).dtype
    own = rank_config(model.config, model.ranks.size)
    cache = make_kv_cache(own, num_blocks, BLOCK_SIZE, dtype, input_ids.device, num_states=1)
    resid = torch.empty(0)
    made: MadeCache = {}
    run = trace_layers(model, input_ids, max_rows, kv_dtype, edits, cache, num_tokens, made)
    for trace in run:
        yield
        if trace is not None:
            resid = trace.resid_post
    found = [int(model.unembed(resid[-1:])[0].argmax())]
    for position in range(len(input_ids), num_tokens - 1):
        token = torch.tensor(found[-1:], device=input_ids.device)
        x = start_of_stream(model, token, edits, position)
        told = model.layer_inputs_of(token, x)
        rows = TextRows(position, position + 1, num_tokens)
        for layer in range(len(model.blocks)):
            run_block = BlockRun(model, layer, rows, cache, TextEdits((edits,)), told, made)
            x = run_block(x).resid_post
            yield
        found.append(int(model.unembed(x)[0].argmax()))
        yield
    return found

"""Heads of multi-head latent attention: queries, keys and values that no head keeps, by
transformers' hooks, whose modules make them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.inspection.conftest import Pair
from tests.inspection.test_readings import TOKENS, finish, read_part, traces_of, whole
from tests.inspection.test_uneven_heads import run
from thirdeye.model.inspection.readings import Readings, Selection
from thirdeye.model.inspection.refusals import refusals
from thirdeye.server.api.introspection.inspect_limits import size_of
from thirdeye.server.engine.interface.trace import VECTORS, TraceRequest
from thirdeye.server.launch.opened_model import model_info
from thirdeye.weights.checkpoint import open_checkpoint

PairOf = Callable[[str], Pair]
# Queries of the stream, and of a latent; biases; YaRN; queries that grow with their position.
LATENTS = ("deepseek_v2", "deepseek_v2-biases", "deepseek_v3", "mistral4")


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def turned_first(heads: Tensor, rope_size: int, *, in_pairs: bool) -> Tensor:
    """Heads as transformers has them, what is turned last, perhaps in pairs of neighbours; ours
    come in halves."""
    others, turned = heads.tensor_split([-rope_size], dim=-1)
    if in_pairs:
        turned = torch.cat((turned[..., ::2], turned[..., 1::2]), dim=-1)
    return torch.cat((turned, others), dim=-1)


@pytest.mark.parametrize("name", LATENTS)
def test_heads_own_vectors_are_those_of_transformers(pair_of: PairOf, name: str) -> None:
    """Before they are turned and after; the scores are the served ones, and are their products."""
    pair = pair_of(name)
    config, num_tokens = pair.ours.config, len(TOKENS)
    spec = config.attention_of(0)
    latent, heads, scale = spec.latent, config.num_heads, spec.scale
    assert latent is not None
    assert scale is not None
    ordered = partial(turned_first, rope_size=latent.rope_size)
    as_complex = name.startswith("deepseek_v2")  # how that class turns: neighbours stay neighbours
    reads = Readings(whole(pair.ours, num_tokens, is_masked=False), 8)
    seen_layers, _ = run(pair.hf)
    layers: Any = pair.hf.model.layers
    for ours, seen, layer in zip(traces_of(pair.ours, TOKENS), seen_layers, layers, strict=True):
        read = partial(read_part, reads, ours)
        asked = seen.get("self_attn.q_proj", seen.get("self_attn.q_b_proj"))
        assert asked is not None
        query = asked.view(num_tokens, heads, -1).transpose(0, 1)
        made = seen["self_attn.kv_b_proj"].view(num_tokens, heads, -1).transpose(0, 1)
        key, value = made.tensor_split([latent.key_size], dim=-1)
        shared = seen["self_attn.kv_a_proj_with_mqa"][None, :, latent.size :]
        key = torch.cat((key, shared.expand(heads, -1, -1)), dim=-1)
        close(read("q"), ordered(query, in_pairs=True))
        close(read("k"), ordered(key, in_pairs=True))
        close(read("v"), value)
        assert read("k").shape[-1] > read("v").shape[-1] == config.value_dim_of(0)
        for part in ("rot_q", "rot_k"):
            close(read(part), ordered(seen[part], in_pairs=as_complex))
        close(read("scores"), seen["scores"])
        close(read("rot_q") @ read("rot_k").mT * scale, read("scores"))
        columns = layer.self_attn.o_proj.weight.view(config.hidden_size, heads, -1)
        lengths = (value @ columns.permute(1, 2, 0)).norm(dim=-1)
        close(read("value_norms"), lengths)


def test_each_chosen_head_has_a_key_of_its_own(pair_of: PairOf) -> None:
    """And an answer is counted by the sizes that its arrays have: a key is wider than a value."""
    pair = pair_of("deepseek_v3")
    info = model_info(open_checkpoint(pair.path))
    heads, places = [4, 0], [20, 3, 9]
    every = Readings(whole(pair.ours, len(TOKENS)), 100)
    some = Readings(Selection(tuple(heads), tuple(places)), 2)
    trace = traces_of(pair.ours, TOKENS)[1]
    request = TraceRequest(
        request_id="", token_ids=TOKENS, layers=[1], heads=heads, positions=places
    )
    for name in {*VECTORS, "value_norms"} - refusals(pair.ours.config).keys():
        expected = finish(every.array(trace, name))[heads]
        found = finish(some.array(trace, name))
        close(found, expected if name == "value_norms" else expected[:, places])
        assert found.numel() == size_of(name, 1, request, info), name


def test_only_an_edit_of_a_key_value_head_is_refused(pair_of: PairOf) -> None:
    """All heads' are made of one latent; the refusal says what to edit in its place."""
    found = refusals(pair_of("deepseek_v2").ours.config)
    assert found.keys() == {"kv_head", "q_normed", "k_normed", "v_normed"}
    assert "one latent" in found["kv_head"]
    assert "edit 'head'" in found["kv_head"]

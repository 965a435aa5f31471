"""Heads of multi-head latent attention: queries, keys and values that no head keeps, by
transformers' hooks, whose modules make them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.inspection.conftest import Pair
from tests.inspection.edited import plain
from tests.inspection.test_edits import logits_of
from tests.inspection.test_readings import TOKENS, finish, read_part, traces_of, whole
from tests.inspection.test_uneven_heads import run
from thirdeye.model.inspection.continuation import continued
from thirdeye.model.inspection.edits import AddVector, Edit, EditChange, Put, Scale
from thirdeye.model.inspection.latent.latent_heads import NAMES
from thirdeye.model.inspection.readings import Readings, Selection
from thirdeye.model.inspection.refusals import refusals
from thirdeye.server.api.introspection.inspect_limits import size_of
from thirdeye.server.engine.interface.trace import VECTORS, TraceRequest
from thirdeye.server.launch.opened_model import model_info
from thirdeye.weights.checkpoint import open_checkpoint

PairOf = Callable[[str], Pair]
# Queries of the stream, and of a latent; biases; YaRN; queries that grow with their position.
BY_QUERY = ("pattern", "scores")
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


def test_only_what_is_not_normed_is_refused(pair_of: PairOf) -> None:
    found = refusals(pair_of("deepseek_v2").ours.config)
    assert found.keys() == {"q_normed", "k_normed", "v_normed"}


class Edited:
    """A head's key and value, changed for it alone as transformers has them, and put there."""

    def __init__(self, pair: Pair, name: str, layer: int, head: int, edit: Edit) -> None:
        spec = pair.ours.config.attention_of(layer).latent
        assert spec is not None
        as_complex = name.startswith("deepseek_v2")
        seen = run(pair.hf)[0][layer]
        made = seen["self_attn.kv_b_proj"].view(len(TOKENS), pair.ours.config.num_heads, -1)
        key, value = made[:, head].tensor_split([spec.key_size], dim=-1)
        shared = seen["self_attn.kv_a_proj_with_mqa"][:, spec.size :]
        key = turned_first(torch.cat((key, shared), dim=-1), spec.rope_size, in_pairs=True)
        rotary: Any = pair.hf.model.rotary_emb
        angles = torch.arange(len(TOKENS))[:, None] * rotary.inv_freq

        def turned(key: Tensor) -> Tensor:
            """As transformers has it: what is turned comes last, perhaps as neighbours."""
            first, second, rest = key.tensor_split([angles.shape[1], spec.rope_size], dim=-1)
            cos, sin = (part * rotary.attention_scaling for part in (angles.cos(), angles.sin()))
            both = first * cos - second * sin, second * cos + first * sin
            joined = torch.stack(both, dim=-1).flatten(1) if as_complex else torch.cat(both, dim=-1)
            return torch.cat((rest, joined), dim=-1)

        close(turned(key), seen["rot_k"][head])
        self.unturned = plain(torch.cat((key, value), dim=-1), edit)
        new_key, new_value = self.unturned.tensor_split([spec.head_size], dim=-1)

        def put(heads: Tensor, new: Tensor) -> Tensor:
            heads[head] = new
            return heads

        hooks: dict[str, Callable[[Tensor], Tensor]] = {
            f"{layer}.rot_k": partial(put, new=turned(new_key)),
            f"{layer}.values": partial(put, new=new_value),
        }
        self.seen, self.logits = run(pair.hf, hooks)


@pytest.mark.parametrize("name", LATENTS)
def test_a_heads_key_and_value_are_edited_alone(pair_of: PairOf, name: str) -> None:
    """In every way; what is told of the run is of them; a scale of 1 leaves its bits."""
    pair, places, head = pair_of(name), (3, 11), 4
    config = pair.ours.config
    base = logits_of(pair.ours, [])
    latent = config.attention_of(0).latent
    assert latent is not None
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(2, latent.head_size + latent.value_size, generator=generator)
    changes: tuple[EditChange, ...] = (Put(vectors), AddVector(vectors), Scale(-0.5), Scale(0.0))
    for layer, change in zip((1, 0, 2, 1), changes, strict=True):
        edit = Edit("kv_head", change, layer, head, places)
        theirs = Edited(pair, name, layer, head, edit)
        ours = logits_of(pair.ours, [edit], max_rows=9)
        torch.testing.assert_close(ours, theirs.logits, atol=1e-4, rtol=1e-4)
        assert (ours - base).abs().max() > 1e-4
        traces = traces_of(pair.ours, TOKENS, edits=[edit])
        reads, seen = Readings(whole(pair.ours, len(TOKENS)), 8), theirs.seen[layer]
        told = {part: finish(reads.array(traces[layer], part)) for part in (*NAMES, *BY_QUERY)}
        close(torch.cat((told["k"][head], told["v"][head]), dim=-1), theirs.unturned)
        visible = torch.ones(len(TOKENS), len(TOKENS), dtype=torch.bool).tril()
        close(told["scores"][:, visible], seen["scores"][:, visible])
        close(told["pattern"], seen["pattern"])
        layers: Any = pair.hf.model.layers
        matrix = layers[layer].self_attn.o_proj.weight
        columns = matrix.view(config.hidden_size, config.num_heads, -1).permute(1, 2, 0)
        close(told["value_norms"], (seen["values"] @ columns).norm(dim=-1))
        scale = config.attention_of(layer).scale
        assert scale is not None
        products = told["rot_q"] @ told["rot_k"].mT * scale
        close(products[:, visible], told["scores"][:, visible])
    nothing = Edit("kv_head", Scale(1.0), 1, head)
    assert torch.equal(logits_of(pair.ours, [nothing], max_rows=9), base)


def test_an_edited_key_goes_on_with_the_text(pair_of: PairOf) -> None:
    """And a pattern that is edited too takes the edited values."""
    pair, ids = pair_of("deepseek_v3"), [*TOKENS]
    edits = [
        Edit("kv_head", Scale(-2.0), 1, 2, (4, 9)),
        Edit("kv_head", Scale(3.0), 0, 5),
        Edit("pattern", Scale(0.5), 1, 2),
    ]
    halved = [*edits[:2], Edit("head", Scale(0.5), 1, 2)]
    torch.testing.assert_close(logits_of(pair.ours, edits), logits_of(pair.ours, halved))
    for _ in range(3):
        ids.append(int(logits_of(pair.ours, edits, ids, 64)[-1].argmax()))
    assert finish(continued(pair.ours, torch.tensor(TOKENS), 3, 8, None, edits)) == ids[21:]

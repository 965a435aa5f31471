"""An edit does what transformers' hooks do; alone, in a sweep, in any form the same."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.draws import also_at_night, draws, is_night
from tests.inspection.conftest import TINY, Pair
from tests.inspection.edited import causal, hooks_of, random_edits, width_of
from tests.inspection.test_attribution import SHAPES
from tests.inspection.test_readings import TOKENS, finish, traces_of
from tests.model.parallel.test_parallel import MODELS, on_ranks, share_of
from tests.model.tiny import random_model
from thirdeye.model.inspection.continuation import continued
from thirdeye.model.inspection.edits import INDEXED, POINTS, AddVector, Edit, Put, Scale
from thirdeye.model.inspection.points import read_point
from thirdeye.model.inspection.refusals import refusals
from thirdeye.model.inspection.variants import BaseRun, noisy, run_variants
from thirdeye.model.native.library import Library
from thirdeye.model.transformer import Transformer

__all__ = ["on_ranks"]  # a fixture

PairOf = Callable[[str], Pair]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def logits_of(
    model: Transformer, edits: Sequence[Edit], ids: list[int] = TOKENS, max_rows: int = 8
) -> Tensor:
    return model.unembed(traces_of(model, ids, max_rows, edits=edits)[-1].resid_post)


@also_at_night
@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize("name", TINY)
def test_each_point_by_transformers_hooks(pair_of: PairOf, name: str, at: str) -> None:
    """Zeroed, scaled, put and added to, at some positions and at all; at a push two of these at
    some, two at all, and the next test draws any."""
    pair = pair_of(name)
    config, generator = pair.ours.config, torch.Generator().manual_seed(5)
    width, base = width_of(at, config, len(TOKENS)), pair.theirs.run(TOKENS).logits
    for positions, count in ((None, 1), ((20, 3, 11), 3)):
        values = torch.randn(count, width, generator=generator)
        values = causal(values, positions) if at == "pattern" else values
        changes = (Scale(0.0), AddVector(values), Scale(-0.5), Put(values))
        if not is_night():
            changes = changes[:2] if positions is None else changes[2:]
        for change in changes:
            edit = Edit(at, change, 0 if at == "embed" else 1, 1 if at in INDEXED else 0, positions)
            hooks = hooks_of([edit], config, is_gpt2=name == "gpt2")
            theirs = pair.theirs.run(TOKENS, hooks).logits
            torch.testing.assert_close(logits_of(pair.ours, [edit]), theirs, atol=5e-5, rtol=5e-5)
            if not isinstance(change, Scale):
                assert (theirs - base).abs().max() > 1e-3  # it does something


@given(st.data())
@draws(25, 300)
def test_any_edits_together_are_what_hooks_make_of_them(
    pair_of: PairOf, data: st.DataObject
) -> None:
    """In the model's order of points, and of one point in the order they are given; whatever the
    pieces."""
    name = data.draw(st.sampled_from(TINY))
    pair = pair_of(name)
    some = st.lists(random_edits(pair.ours.config, len(TOKENS)), max_size=4)
    edits, max_rows = data.draw(some), data.draw(st.sampled_from([1, 5, 64]))
    hooks = hooks_of(edits, pair.ours.config, is_gpt2=name == "gpt2")
    with torch.inference_mode():
        theirs = pair.theirs.run(TOKENS, hooks).logits
        ours = logits_of(pair.ours, edits, max_rows=max_rows)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def everywhere(model: Transformer, change: Scale) -> list[Edit]:
    """An edit at each point of layer 1."""
    return [Edit(at, change, 0 if at == "embed" else 1, 1 if at in INDEXED else 0) for at in POINTS]


@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("name", TINY)
def test_a_factor_of_one_changes_no_bit(
    pair_of: PairOf, native: Library, name: str, quantize: str
) -> None:
    """At each point but `pattern`, whose weights are then the textbook's instead of the kernel's;
    there to rounding."""
    model = pair_of(name).in_c(native, quantize)
    base = logits_of(model, [])
    for edit in everywhere(model, Scale(1.0)):
        if edit.at != "pattern":
            assert torch.equal(logits_of(model, [edit]), base), edit.at
    if quantize == "none":
        same = [Edit("pattern", Scale(1.0), 1, 1)]
        torch.testing.assert_close(logits_of(model, same), base, **CLOSE)


@pytest.mark.parametrize("name", SHAPES)
def test_every_architecture_can_be_edited(pair_of: PairOf, native: Library, name: str) -> None:
    """In 8 bits: a factor of one changes no bit, another does, at each point that a model has."""
    model = pair_of(name).in_c(native, "int8")
    base = logits_of(model, [])
    for at in set(POINTS) - refusals(model.config).keys() - {"pattern"}:
        layer, index = int(at != "embed"), int(at in INDEXED)
        index = min(index, model.config.num_kv_heads - 1) if at == "kv_head" else index
        assert torch.equal(logits_of(model, [Edit(at, Scale(1.0), layer, index)]), base), at
        assert not torch.equal(logits_of(model, [Edit(at, Scale(-2.0), layer, index)]), base), at
    same = Put(torch.eye(len(TOKENS)))
    assert not torch.equal(logits_of(model, [Edit("pattern", same, 1, 1)]), base)


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_numbers_of_the_same_text_change_no_bit(
    pair_of: PairOf, native: Library, quantize: str
) -> None:
    """Patching a text with itself, at each point that holds vectors."""
    model = pair_of("qwen3").in_c(native, quantize)
    base, traces = logits_of(model, []), traces_of(model, TOKENS)
    for edit in everywhere(model, Scale(1.0)):
        if edit.at in ("embed", "pattern"):
            continue
        values = read_point(traces[edit.layer], edit.at, edit.index)
        patched = Edit(edit.at, Put(values), edit.layer, edit.index, tuple(range(len(TOKENS))))
        assert torch.equal(logits_of(model, [patched]), base), edit.at


def streams_of_variants(model: Transformer, variants: list[tuple[Edit, ...]]) -> dict[int, Tensor]:
    """Of a sweep, by number; each is the stream that the variant has alone, bit for bit."""
    ids = TOKENS[:7]
    base = BaseRun(torch.tensor(ids), [trace.resid_pre for trace in traces_of(model, ids)])
    found: dict[int, Tensor] = {}
    for done in run_variants(model, base, variants, 64, None):
        if done is not None:
            found |= dict(zip(*done, strict=True))
    assert sorted(found) == list(range(len(variants)))
    for number, resid in found.items():
        alone = traces_of(model, ids, edits=variants[number])[-1].resid_post
        assert torch.equal(resid, alone), variants[number]
    return found


@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_variant_is_the_same_alone_and_in_a_sweep(
    pair_of: PairOf, native: Library, name: str, quantize: str
) -> None:
    """Bit for bit: every head zeroed, beside others from other layers, and noise."""
    model = pair_of(name).in_c(native, quantize)
    heads = [
        (Edit("head", Scale(0.0), layer, head),)
        for layer in range(model.config.num_hidden_layers)
        for head in range(model.config.num_heads)
    ]
    variants = heads[::-1] + noisy(model, torch.tensor(TOKENS[:7]), 2)
    found = streams_of_variants(model, variants)
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("name", ["llama-tied-mha", "gpt2", "qwen3"])
def test_edits_on_two_ranks(on_ranks, name: str) -> None:  # type: ignore[no-untyped-def]
    """A head and a neuron are on one rank alone; all of them see what comes of it."""
    torch.set_num_threads(1)
    config, ids = MODELS[name], list(range(3, 20))
    edits = [
        Edit("head", Scale(0.0), 1, config.num_heads - 1, (2, 9)),
        Edit("kv_head", Scale(0.5), 0, config.num_kv_heads - 1),
        Edit("neuron", Put(torch.ones(1, 1)), 1, config.intermediate_size - 2),
        Edit("pattern", Put(torch.eye(len(ids))), 0, 1),
        Edit("attn_out", AddVector(torch.ones(1, config.hidden_size)), 0, positions=(3,)),
    ]

    def run(model: Transformer) -> Tensor:
        with torch.inference_mode():
            return logits_of(model, edits, ids)

    expected = run(random_model(config))
    assert not torch.allclose(expected, logits_of(random_model(config), [], ids), atol=1e-2)
    for found in on_ranks(2, lambda ranks: run(share_of(config, ranks))):
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("name", TINY)
def test_a_text_goes_on_as_the_whole_text_computed_anew(
    pair_of: PairOf, native: Library, name: str, quantize: str
) -> None:
    """Each token in keys and values of its own, with edits of every position and of one: the
    likeliest after all of them, in one pass over the whole text so far."""
    model = pair_of(name).in_c(native, quantize)
    vector = torch.randn(1, model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    for edits in (
        [],
        [Edit("resid_pre", AddVector(vector * 2), 1), Edit("head", Scale(0.0), 0, 2, (4,))],
    ):
        ids = list(TOKENS[:9])
        for _ in range(5):
            ids.append(int(logits_of(model, edits, ids, 64)[-1].argmax()))
        pieces = continued(model, torch.tensor(TOKENS[:9]), 5, 4, None, edits)
        assert finish(pieces) == ids[9:]

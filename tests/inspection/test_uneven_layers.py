"""Edits of models whose layers differ: that keep a state, are attention or an MLP alone, have heads
of two sizes, read another's keys. By transformers' hooks where the stream passes, by the same text
computed otherwise everywhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from tests.draws import also_at_night, count, is_night
from tests.inspection.conftest import Pair
from tests.inspection.edited import plain
from tests.inspection.test_attribution import UNEVEN
from tests.inspection.test_edits import CLOSE, logits_of, streams_of_variants
from tests.inspection.test_readings import TOKENS, finish, traces_of
from thirdeye.model.inspection.continuation import continued
from thirdeye.model.inspection.edits import INDEXED, POINTS, AddVector, Edit, Put, Scale
from thirdeye.model.inspection.points import read_point
from thirdeye.model.inspection.refusals import absent_points, refusals
from thirdeye.model.native.library import Library
from thirdeye.model.transformer import Transformer

PairOf = Callable[[str], Pair]
MIXERS = ("self_attn", "linear_attn", "conv", "mixer")  # transformers' names of what adds first
THINKERS = ("mlp", "feed_forward")


def points_of(model: Transformer) -> list[tuple[str, int]]:
    """Every point of every layer that has it."""
    config = model.config
    untold, absent = refusals(config), absent_points(config)
    layers = range(config.num_hidden_layers)
    return [
        (at, layer)
        for at in POINTS
        if at not in untold
        for layer in ([0] if at == "embed" else layers)
        if layer not in absent.get(at, ())
    ]


def tried_points(model: Transformer) -> list[tuple[str, int]]:
    """At a push each point in one layer of each kind, of which the layers take turns."""
    places = points_of(model)
    if is_night():
        return places
    alike: dict[Any, list[int]] = {}
    for layer in range(model.config.num_hidden_layers):
        alike.setdefault(kind_of(model, layer, places), []).append(layer)
    tried = {
        (at, layers[turn % len(layers)])
        for turn, at in enumerate(POINTS)
        for layers in alike.values()
    }
    return [place for place in places if place in tried or place[0] == "embed"]


def kind_of(model: Transformer, layer: int, places: list[tuple[str, int]]) -> Any:
    block, config = model.blocks[layer], model.config
    spec = config.attention_of(layer) if layer in config.attending_layers else None
    points = [at for at in POINTS if at != "embed" and (at, layer) in places]
    return type(block.attention), type(block.mlp), spec, config.experts_of(layer), tuple(points)


@contextmanager
def hooked(model: Any, edit: Edit) -> Iterator[None]:
    layer = model.model.layers[edit.layer]

    def changed(output: Any) -> Any:
        x = output[0] if isinstance(output, tuple) else output
        x = plain(x[0], edit)[None]
        return (x, *output[1:]) if isinstance(output, tuple) else x

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": changed(kwargs["hidden_states"])}

    if edit.at == "resid_pre":
        handle = layer.register_forward_pre_hook(before, with_kwargs=True)
    else:
        names = MIXERS if edit.at == "attn_out" else THINKERS
        found = {name: module for name, module in layer.named_children() if name in names}
        modules = {"embed": model.get_input_embeddings(), "resid_post": layer}
        module = modules.get(edit.at) or next(iter(found.values()))
        handle = module.register_forward_hook(lambda _, __, output: changed(output))
    try:
        yield
    finally:
        handle.remove()


@also_at_night
@pytest.mark.parametrize("name", UNEVEN)
def test_the_stream_by_transformers_hooks(pair_of: PairOf, name: str) -> None:
    """At each layer, whatever it keeps, at some positions and at all."""
    pair = pair_of(name)
    width, generator = pair.ours.config.hidden_size, torch.Generator().manual_seed(5)
    base = pair.hf(torch.tensor([TOKENS])).logits[0]
    stream = {"resid_pre", "resid_post"}
    if name != "falcon_h1":  # there embeddings are scaled, and so is what two modules add at once
        stream |= {"embed"}
    if name in ("lfm2", "qwen3_5_text", "nemotron_h-dense"):  # what a module says is added as it is
        stream |= {"attn_out"} | ({"mlp_out"} if name != "nemotron_h-dense" else set())
    tried = [place for place in tried_points(pair.ours) if place[0] in stream]
    assert {at for at, _ in tried} == stream
    for number, (at, layer) in enumerate(tried):
        positions = (20, 3, 11) if number % 2 else None
        values = torch.randn(3 if positions else 1, width, generator=generator)
        change = (Scale(-0.5), Put(values), AddVector(values))[number % 3]
        edit = Edit(at, change, layer, 0, positions)
        with hooked(pair.hf, edit):
            theirs = pair.hf(torch.tensor([TOKENS])).logits[0]
        torch.testing.assert_close(logits_of(pair.ours, [edit]), theirs, atol=5e-4, rtol=5e-4)
        assert (theirs - base).abs().max() > 1e-3


def edits_of(model: Transformer, change: Scale | Put | AddVector) -> list[Edit]:
    return [
        Edit(at, change, layer, int(at in INDEXED) * int(at != "kv_head"))
        for at, layer in tried_points(model)
        if at != "pattern"
    ]


@also_at_night
@pytest.mark.parametrize("name", UNEVEN)
def test_a_factor_of_one_changes_no_bit(pair_of: PairOf, native: Library, name: str) -> None:
    """Another factor does, at each point that a layer has, and so does another pattern."""
    model = pair_of(name).in_c(native, "int8")
    base = logits_of(model, [])
    for same, other in zip(edits_of(model, Scale(1.0)), edits_of(model, Scale(-2.0)), strict=True):
        assert torch.equal(logits_of(model, [same]), base), same
        assert not torch.equal(logits_of(model, [other]), base), other
    for at, layer in tried_points(model):
        if at == "pattern":
            eye = Put(torch.eye(len(TOKENS)))
            assert not torch.equal(logits_of(model, [Edit(at, eye, layer, 1)]), base)


@also_at_night
@pytest.mark.parametrize("name", UNEVEN)
def test_numbers_of_the_same_text_change_no_bit(pair_of: PairOf, name: str) -> None:
    """Patching a text with itself, at each point that a layer has, whatever it keeps."""
    model = pair_of(name).ours
    base, traces = logits_of(model, []), traces_of(model, TOKENS)
    for at, layer in tried_points(model):
        if at in ("embed", "pattern"):
            continue
        values = read_point(traces[layer], at, 0)
        patched = Edit(at, Put(values), layer, 0, tuple(range(len(TOKENS))))
        assert torch.equal(logits_of(model, [patched]), base), (at, layer)


@also_at_night
@pytest.mark.parametrize("name", UNEVEN)
def test_pieces_change_nothing(pair_of: PairOf, name: str) -> None:
    """A state goes from one piece to the next, edited or not."""
    model = pair_of(name).ours
    for edit in edits_of(model, Scale(-0.5)):
        whole = logits_of(model, [edit], max_rows=64)
        pieces = logits_of(model, [edit], max_rows=count(11, 5))
        torch.testing.assert_close(pieces, whole, **CLOSE)


@also_at_night
@pytest.mark.parametrize("name", UNEVEN)
def test_a_variant_is_the_same_alone_and_in_a_sweep(
    pair_of: PairOf, native: Library, name: str
) -> None:
    """Bit for bit: each has a state of its own in every layer."""
    model = pair_of(name).in_c(native, "none")
    streams_of_variants(model, [(edit,) for edit in edits_of(model, Scale(0.0))][::-1])


@pytest.mark.parametrize("name", UNEVEN)
def test_a_text_goes_on_as_the_whole_text_computed_anew(pair_of: PairOf, name: str) -> None:
    """Each token with the states that the one before left."""
    model = pair_of(name).ours
    vector = torch.randn(1, model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    cases: Sequence[list[Edit]] = ([], [Edit("resid_pre", AddVector(vector * 2), 1)])
    for edits in cases:
        ids = list(TOKENS[:9])
        for _ in range(4):
            ids.append(int(logits_of(model, edits, ids, 64)[-1].argmax()))
        pieces = continued(model, torch.tensor(TOKENS[:9]), 4, 4, None, edits)
        assert finish(pieces) == ids[9:]

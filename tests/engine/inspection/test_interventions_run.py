"""Edits, sweeps and noise through the engine: right effects, and nobody else's bits."""

from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from tests.engine.inspection.test_layer_inspector import values_of
from tests.engine.toy import make_request, toy_config
from tests.model.tiny import CPU, GPT2, LATENT, LLAMA, random_model
from thirdeye.model.inspection.edits import Edit, Put, Scale
from thirdeye.model.inspection.probe import logit_lens, trace_layers
from thirdeye.model.native.library import Library
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.inspection.layer_inspector import LayerInspector
from thirdeye.server.engine.interface.interventions import EditSpec, SweepSpec
from thirdeye.server.engine.interface.trace import Trace, TraceRequest
from thirdeye.server.engine.interface.types import StepOutput

IDS, OTHER = [3, 1, 4, 1, 5, 9, 2, 6], [8, 2, 8, 1, 8, 2, 8, 4]
ZERO = EditSpec(at="head", change="zero", layer=1, index=2)
HEADS = SweepSpec(over="heads", edit=EditSpec(at="head", change="zero"), layers=[0, 1])


def look(**fields: Any) -> TraceRequest:
    defaults: dict[str, Any] = {
        "token_ids": IDS, "layers": [0, 1], "lens_positions": [7], "num_noise": 3,
        "compare": [5, 11],
    }  # fmt: skip
    return TraceRequest(request_id="look", **(defaults | fields))


def told(model: Transformer, request: TraceRequest, max_rows: int = 16) -> list[Trace]:
    with torch.inference_mode():
        pieces = list(LayerInspector(model, CPU, max_rows)(request))
    return [trace for trace in pieces if trace is not None]


def next_logprobs(model: Transformer, edits: list[Edit], ids: list[int] = IDS) -> Tensor:
    with torch.inference_mode():
        pieces = trace_layers(model, torch.tensor(ids), 16, edits=edits)
        *_, last = (trace for trace in pieces if trace is not None)
        return logit_lens(model, last.resid_post[-1:])[0]


def expected_effect(base: Tensor, changed: Tensor) -> Tensor:
    kl = (base.double().exp() * (base.double() - changed.double())).sum()
    ranks = [(changed > changed[token]).sum() for token in (5, 11)]
    values = (kl, changed[5] - changed[11], changed[5], changed[11], *ranks)
    return torch.stack([value.float() for value in values])


def test_a_sweep_goes_over_every_heads_own_key_and_value() -> None:
    """Of latents each head makes its own; zeroed they are what the same edit alone comes to."""
    model = random_model(LATENT)
    edit = EditSpec(at="kv_head", change="zero")
    request = look(sweep=SweepSpec(over="kv_heads", edit=edit, layers=[0, 1]), num_noise=0)
    swept = [trace.arrays.get("variants") for trace in told(model, request)]
    found = torch.cat([values_of(variants) for variants in swept if variants])
    heads = LATENT.num_heads
    assert sorted(found[:, 0].tolist()) == [*range(2 * heads)]
    base = next_logprobs(model, [])
    for number, *told_of in found.tolist():
        layer, head = divmod(int(number), heads)
        changed = next_logprobs(model, [Edit("kv_head", Scale(0.0), layer, head)])
        wanted = expected_effect(base, changed)
        torch.testing.assert_close(torch.tensor(told_of), wanted, atol=1e-5, rtol=1e-5)


def test_an_effect_is_that_of_both_runs() -> None:
    """KL, logits' difference, logprobs and ranks, plainly from two distributions; what is told of
    layers and the next token is the edited run's."""
    model = random_model(LLAMA)
    request = look(edits=[ZERO], arrays=["z", "attn_out"], has_lens=True)
    *layers, last = told(model, request)
    base, changed = next_logprobs(model, []), next_logprobs(model, [Edit("head", Scale(0.0), 1, 2)])
    for name, found in (("base_effect", base), ("effect", changed)):
        ours = values_of(last.arrays[name])
        torch.testing.assert_close(ours, expected_effect(base, found), atol=1e-5, rtol=1e-5)
    assert values_of(last.arrays["effect"])[0] > 1e-3
    assert values_of(layers[1].arrays["z"])[2].eq(0).all()
    assert last.lens[0][0][0] == changed.argmax()
    assert last.base_lens[0][0][0] == base.argmax()
    runs, median, largest, deviation = values_of(last.arrays["noise"]).tolist()
    assert runs == 3
    assert 0 <= median <= largest < 1e-6
    assert deviation < 1e-3


@pytest.mark.parametrize("config", [LLAMA, GPT2])
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_a_swept_variant_is_the_edit_alone(native: Library, config: Any, quantize: str) -> None:
    """To the last bit of each number, in any form; each once, and the noise is told first."""
    model = random_model(config, quantize=quantize, native=native)
    first, *rows, last = told(model, look(sweep=HEADS), max_rows=64)
    assert first.arrays.keys() == {"noise", "base_effect"}
    assert not last.lens
    found = torch.cat([values_of(row.arrays["variants"]) for row in rows])
    assert found[:, 0].tolist() == list(range(2 * config.num_heads))
    for number, *effect in found.tolist():
        layer, head = divmod(int(number), config.num_heads)
        spec = replace(ZERO, layer=layer, index=head)
        alone = told(model, look(edits=[spec], arrays=[]), max_rows=64)[-1]
        assert values_of(alone.arrays["effect"]).tolist() == effect


def test_what_edits_take_from_texts() -> None:
    """A source's numbers, means, differences of texts and of tokens, at the right places."""
    model = random_model(GPT2)
    with torch.inference_mode():
        own, other = (
            [t for t in trace_layers(model, torch.tensor(ids), 16) if t is not None]
            for ids in (IDS, OTHER)
        )
        rows = model.embed_text(torch.tensor([5, 11]))
    mean = torch.cat([own[1].attn_out, other[1].attn_out]).mean(0, keepdim=True)
    direction = (other[0].resid_post[-1] - own[0].resid_post[2])[None]
    lengths = own[1].resid_pre[[4, 6]].norm(dim=-1, keepdim=True)
    matched = own[1].resid_pre[[4, 6]] + direction / direction.norm() * lengths * 0.5
    add = {"change": "add", "texts": [1, 0], "from_positions": [7, 2]}
    previous = torch.eye(8).roll(1, 0)
    previous[0] = torch.eye(8)[0]
    embedded = model.embed_text(torch.tensor(IDS))[3:4] + rows[:1] - rows[1:]
    every = tuple(range(8))
    cases = [
        (
            EditSpec(at="head", change="source", layer=0, index=3, positions=[6, 2], texts=[1],
                     from_positions=[0, 5]),
            Edit("head", Put(other[0].z[[0, 5], 3]), 0, 3, (6, 2)),
        ),
        (
            EditSpec(at="attn_out", change="mean", layer=1, texts=[0, 1]),
            Edit("attn_out", Put(mean), 1),
        ),
        (
            EditSpec(at="resid_post", layer=1, from_layer=0, factor=2.0, **add),
            Edit("resid_post", Put(own[1].resid_post + 2 * direction), 1, positions=every),
        ),
        (
            EditSpec(at="embed", change="add", tokens=[5, 11], positions=[3]),
            Edit("embed", Put(embedded), positions=(3,)),
        ),
        (
            EditSpec(at="pattern", change="previous", layer=0, index=1),
            Edit("pattern", Put(previous), 0, 1),
        ),
        (
            EditSpec(at="pattern", change="mean", layer=0, index=1, texts=[0, 1]),
            Edit("pattern", Put((own[0].pattern[1] + other[0].pattern[1]) / 2), 0, 1, every),
        ),
        (
            EditSpec(at="pattern", change="mean", layer=0, index=1, texts=[1], positions=[5, 7]),
            Edit("pattern", Put(other[0].pattern[1][[5, 7]]), 0, 1, (5, 7)),
        ),
    ]  # fmt: skip
    for spec, edit in cases:
        last = told(model, look(edits=[spec], texts=[OTHER], arrays=[]))[-1]
        base, changed = next_logprobs(model, []), next_logprobs(model, [edit])
        ours = values_of(last.arrays["effect"])
        torch.testing.assert_close(ours, expected_effect(base, changed), atol=1e-4, rtol=1e-4)
        assert ours[0] > 1e-6
    spec = EditSpec(
        at="resid_pre", change="add", layer=1, positions=[4, 6], vector=direction[0].tolist(),
        factor=0.5, matches_norm=True,
    )  # fmt: skip
    last = told(model, look(edits=[spec], arrays=["resid_pre"]))[-2]
    ours = values_of(last.arrays["resid_pre"])[[4, 6]]
    torch.testing.assert_close(ours, matched, atol=1e-4, rtol=1e-4)


def test_a_patching_grid_ends_at_the_source() -> None:
    """The last token's stream before the last layer, and a source's own ends."""
    model = random_model(LLAMA)
    sweep = SweepSpec(
        over="layers_positions", edit=EditSpec(at="resid_post", change="source", texts=[1]),
        layers=[1], positions=[0, 7],
    )  # fmt: skip
    first, rows, _ = told(model, look(sweep=sweep, texts=[OTHER]), max_rows=64)
    unchanged, patched = values_of(rows.arrays["variants"])[:, 1:]
    source = values_of(first.arrays["source_effect"])
    assert torch.equal(unchanged, values_of(first.arrays["base_effect"]))
    assert torch.equal(patched, source)
    base, other = next_logprobs(model, []), next_logprobs(model, [], OTHER)
    torch.testing.assert_close(source, expected_effect(base, other), atol=1e-5, rtol=1e-5)


SAME = Edit("pattern", Put(torch.eye(11)), 1, 2)
ROWS = {"at": "pattern", "layer": 1, "index": 2}


@pytest.mark.parametrize(
    ("spec", "edit"),
    [
        (ZERO, Edit("head", Scale(0.0), 1, 2)),
        (EditSpec(**ROWS, change="identity"), SAME),
        (EditSpec(**ROWS, change="add", vector=[9.0, *[0.0] * 7]), None),
        (EditSpec(**ROWS, change="add", texts=[1, 0]), None),
    ],
)
def test_a_text_goes_on_with_edits_and_without(spec: EditSpec, edit: Edit | None) -> None:
    """Whatever was edited; a pattern's new keys are among those that a row may look at."""
    model = random_model(LLAMA)
    last = told(model, look(edits=[spec], texts=[OTHER], num_continued=3, arrays=[]))[-1]
    assert values_of(last.arrays["effect"])[0] > 0
    if edit is None:
        assert len(last.continued[1]) == 3
        return
    for found, edits in zip(last.continued, ([], [edit]), strict=True):
        ids = [*IDS]
        for _ in range(3):
            ids.append(int(next_logprobs(model, edits, ids).argmax()))
        assert found == ids[8:]


def run(model: Transformer, config: Any, looks: list[TraceRequest]) -> dict[str, list[StepOutput]]:
    """Eight streams with logprobs, and looks inside beside them from the first step on."""
    sizes = toy_config(num_blocks=80, max_num_batched_tokens=24, max_model_len=48)
    cache = KVCache(config, sizes.num_blocks, sizes.block_size, torch.float16, CPU)
    runner = ModelRunner(model, cache, sizes, "cpu")
    core = EngineCore(sizes, runner, inspect=LayerInspector(model, CPU, 24, torch.float16))
    for i in range(8):
        prompt = [(7 * i + 3 * j) % 90 + 1 for j in range(3 + 2 * i)]
        core.add(make_request(str(i), prompt, max_tokens=16, ignore_eos=True, logprobs=3))
    for i, request in enumerate(looks):
        core.inspect(replace(request, request_id=str(i)))
    outputs: dict[str, list[StepOutput]] = {}
    traces: list[Trace] = []
    while core.has_work:
        for output in core.step():
            outputs.setdefault(output.request_id, []).append(output)
        traces += core.traces()
    assert [trace.error for trace in traces if trace.is_last] == [None] * len(looks)
    return outputs


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_streams_keep_their_bits_beside_sweeps(native: Library, quantize: str) -> None:
    """Tokens and logprobs are equal with a sweep, an edit and a reading running; each step of a
    stream gives its token."""
    model = random_model(LLAMA, quantize=quantize, native=native)
    looks = [look(sweep=HEADS), look(edits=[ZERO], num_continued=4, arrays=["pattern"]), look()]
    alone, beside = run(model, LLAMA, []), run(model, LLAMA, looks)
    assert alone.keys() == beside.keys()
    for name, outputs in alone.items():
        ours = [(output.token_ids, output.logprobs) for output in beside[name]]
        assert ours == [(output.token_ids, output.logprobs) for output in outputs]

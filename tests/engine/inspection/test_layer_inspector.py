"""Looking inside between the engine's steps: right numbers, small pieces, and no harm to others."""

import struct
from typing import Any

import torch

from tests.engine.toy import (
    ToyCache,
    ToyModel,
    drain,
    make_request,
    toy_config,
    toy_core,
    toy_inspect,
)
from tests.model.tiny import CPU, LLAMA, random_model
from thirdeye.model.inspection.probe import STREAM, LayerTrace, logit_lens, trace_layers
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.inspection.inspection_queue import InspectionQueue
from thirdeye.server.engine.inspection.layer_inspector import LayerInspector
from thirdeye.server.engine.interface import trace as inspection
from thirdeye.server.engine.interface.trace import UNABLE, Trace, TraceRequest, VocabularyQuery

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def look(name: str = "look", **fields: object) -> TraceRequest:
    defaults = {"token_ids": IDS, "layers": [0, 1], "lens_positions": [7]}
    return TraceRequest(request_id=name, **(defaults | fields))  # type: ignore[arg-type]  # plain


def finish(core: EngineCore) -> list[Trace]:
    traces = []
    while core.has_work:
        core.step()
        traces += core.traces()
    return traces


def test_the_two_lists_of_names_agree() -> None:
    """One is beside the model, one is where no torch may be."""
    assert inspection.STREAM == STREAM


def test_traces_are_those_of_the_probe() -> None:
    """Bytes, shapes and guesses, in pieces of three tokens; a layer not asked for is not told."""
    model = random_model(LLAMA)
    request = look(
        layers=[1], arrays=["pattern", "norms", "attn_out"], has_lens=True,
        lens_positions=[0, 3, 5, 7], num_top=2,
    )  # fmt: skip
    inspections = InspectionQueue(LayerInspector(model, CPU, max_rows=3))
    inspections.add(request)
    traces: list[Trace] = []
    num_pieces = 0
    while inspections.has_work:
        inspections.advance()
        num_pieces += 1
        traces += inspections.pop_traces()
    layer, last = traces
    # Two layers in three chunks each, of one its arrays (a pattern in two), and two lenses.
    assert num_pieces == 2 * 3 + (3 + 2) + 2 * 2
    assert (layer.layer, layer.is_last, last.layer, last.is_last) == (1, False, -1, True)
    expected = [t for t in trace_layers(model, torch.tensor(IDS), 100) if t is not None]
    for name, values in (
        ("pattern", expected[1].pattern),
        ("norms", expected[1].norms()),
        ("attn_out", expected[1].attn_out),
    ):
        array = layer.arrays[name]
        assert array.shape == list(values.shape)
        ours = torch.tensor(struct.unpack(f"<{values.numel()}f", array.data)).view(values.shape)
        torch.testing.assert_close(ours, values, atol=1e-5, rtol=1e-5)
    for trace, resid in ((layer, expected[1].resid_pre), (last, expected[1].resid_post)):
        top = logit_lens(model, resid[[0, 3, 5, 7]]).topk(2)
        assert [[token_id for token_id, _ in guesses] for guesses in trace.lens] == top[1].tolist()
        ours = torch.tensor([[logprob for _, logprob in guesses] for guesses in trace.lens])
        torch.testing.assert_close(ours, top[0], atol=1e-4, rtol=1e-4)


def test_running_requests_lose_no_step_to_it() -> None:
    """One piece a step at the most: a stream gets a token in each, looked into or not."""
    core = toy_core()
    core.add(make_request("r", max_tokens=6, ignore_eos=True))
    core.inspect(look())
    for _ in range(6):
        assert len(core.step()[0].token_ids) == 1
    assert [trace.is_last for trace in core.traces()] == [False, False, True]


def test_an_inspection_that_fails_fails_alone() -> None:
    core = toy_core()
    for request in (look("a"), look("b", token_ids=[0, 1]), look("c")):
        core.inspect(request)
    core.add(make_request())
    traces = finish(core)
    lasts = {trace.request_id: trace.error for trace in traces if trace.is_last}
    assert lasts == {"a": None, "b": inspection.FAILED, "c": None}


def test_one_that_is_left_is_worked_on_no_more() -> None:
    core = toy_core()
    core.inspect(look("a", layers=list(range(1000))))
    core.inspect(look("b"))
    core.step()
    core.end_inspection("a")
    core.end_inspection("nobody")
    assert [trace.request_id for trace in finish(core)] == ["b", "b", "b"]


def test_an_engine_without_an_inspector_says_so() -> None:
    config = toy_config()
    cache = ToyCache(config.num_blocks, config.block_size)
    core = EngineCore(config, ModelRunner(ToyModel(), cache, config, "cpu"))
    core.inspect(look())
    assert [trace.error for trace in finish(core)] == [UNABLE]
    assert drain(core) == {}


def test_the_toy_is_a_fair_stand_in() -> None:
    """It pauses, as the real one does."""
    assert None in list(toy_inspect(look()))


EVERY = [*inspection.ARRAYS]


def values_of(array: inspection.Array) -> torch.Tensor:
    flat = struct.unpack(f"<{len(array.data) // 4}f", array.data)
    return torch.tensor(flat).view(array.shape)


def test_every_part_is_told_in_bounded_pieces() -> None:
    """In pieces of three tokens as in one of a hundred; at the end what all layers make."""
    model = random_model(LLAMA)
    request = look(
        arrays=EVERY, lens_positions=[2, 7], lens_tokens=[5, 96], endings=[*inspection.ENDINGS],
    )  # fmt: skip
    by_rows = []
    for max_rows in (3, 100):
        core = toy_core(inspect=LayerInspector(model, CPU, max_rows))
        core.inspect(request)
        by_rows.append(finish(core))
    for small, whole in zip(*by_rows, strict=True):
        assert small.error is None
        assert small.arrays.keys() == whole.arrays.keys()
        for name, array in small.arrays.items():
            ours, theirs = values_of(array), values_of(whole.arrays[name])
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4, equal_nan=True)
    *layers, last = by_rows[0]
    assert all(layer.arrays.keys() == {*EVERY, "lens_tokens"} for layer in layers)
    heads, num_layers = LLAMA.num_heads, LLAMA.num_hidden_layers
    assert last.arrays["surprisal"].shape == [7, 3]
    assert last.arrays["norm_stats"].shape == [8, 4]
    assert last.arrays["lens_tokens"].shape == [2, 2, 2]
    assert last.arrays["head_scores"].shape == [3, num_layers, heads]
    assert last.arrays["attribution.heads"].shape == [num_layers, heads]
    assert len(last.token_ids) == 60
    top = logit_lens(model, traced(model)[-1].resid_post[-1:])[0].topk(2)
    assert last.compare == top.indices.tolist()
    logit = values_of(last.arrays["attribution.logit"])
    torch.testing.assert_close(logit, top.values[0] - top.values[1], atol=1e-4, rtol=1e-4)


def test_a_piece_costs_less_than_a_chunk() -> None:
    """Multiplications between two pauses, whatever is asked for: never those of a step of
    `max_rows` tokens."""
    model, max_rows, spent, costs = random_model(LLAMA), 4, 0, []

    def count(module: Any, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal spent
        spent += args[0].numel() * output.shape[-1]

    for module in model.modules():
        if isinstance(module, Linear | TiedLinear):
            module.register_forward_hook(count)
    request = look(
        arrays=EVERY, has_lens=True, lens_positions=list(range(8)), endings=[*inspection.ENDINGS]
    )
    for _ in LayerInspector(model, CPU, max_rows)(request):
        costs.append(spent)
        spent = 0
    chunk = sum(p.numel() for p in model.parameters() if p.dim() == 2) * max_rows
    assert 0 < max(costs) < chunk


def traced(model: Transformer) -> list[LayerTrace]:
    return [t for t in trace_layers(model, torch.tensor(IDS), 100) if t is not None]


def test_head_scores_are_computed_once_and_kept() -> None:
    inspector = LayerInspector(random_model(LLAMA), CPU)
    pieces = [len(list(inspector(look(layers=[], endings=["head_scores"])))) for _ in range(2)]
    assert pieces[1] < pieces[0] - LLAMA.num_hidden_layers


def test_neighbours_are_those_of_a_plain_search() -> None:
    """Cosines of the whole table at once; centred, less its mean."""
    model = random_model(LLAMA)
    for is_centred in (False, True):
        query = VocabularyQuery(tokens=[5, 40], num_nearest=4, is_centred=is_centred)
        *_, last = LayerInspector(model, CPU)(look(vocabulary=query))
        assert last is not None
        table = model.embed_tokens(torch.arange(LLAMA.vocab_size))
        table = table - table.mean(0) if is_centred else table
        units = torch.nn.functional.normalize(table, dim=-1)
        cosines = units[[5, 40]] @ units.T
        torch.testing.assert_close(values_of(last.arrays["cosines"]), cosines[:, [5, 40]])
        best = cosines.topk(5)  # the token itself is the first
        assert values_of(last.arrays["nearest"]).long().tolist() == best.indices[:, 1:].tolist()
        torch.testing.assert_close(values_of(last.arrays["nearest_cosines"]), best.values[:, 1:])
        assert values_of(last.arrays["random"]).shape == (2,)


def test_looks_take_turns() -> None:
    """A short one is through while a long one, which came first, is not half done."""
    core = toy_core()
    core.inspect(look("long", layers=list(range(100))))
    core.inspect(look("short"))
    told = [trace.request_id for trace in finish(core)]
    assert told.index("short") <= 2
    last_of_short = len(told) - 1 - told[::-1].index("short")
    assert last_of_short < 10
    assert told.count("long") == 101

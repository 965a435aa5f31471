"""Looking inside between the engine's steps: right numbers, small pieces, and no harm to others."""

import struct

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
from thirdeye.model.inspection.probe import STREAM, logit_lens, trace_layers
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.inspection.inspection_queue import InspectionQueue
from thirdeye.server.engine.inspection.layer_inspector import LayerInspector
from thirdeye.server.engine.interface import trace as inspection
from thirdeye.server.engine.interface.trace import UNABLE, Trace, TraceRequest

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
    assert num_pieces == 2 * 3 + 2 * 2  # layers in chunks; the lens of one, and of the end
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

"""A look inside a model with an adapter: what is seen is what merged weights show, while steps
without it, and with others, run between its pieces."""

import struct

import pytest
import torch

from tests.engine.execution.request_mixes import make_core, no_files
from tests.engine.inspection.test_layer_inspector import finish, look
from tests.engine.toy import make_request
from tests.model.lora.adapters import merged_model, random_factors
from tests.model.tiny import CPU, LLAMA, random_model
from thirdeye.model.native.library import Library
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.adapter_loader import AdapterLoader
from thirdeye.server.engine.core.engine_core import ADAPTER_GONE, EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.inspection.layer_inspector import LayerInspector
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.interventions import EditSpec
from thirdeye.server.engine.interface.trace import Trace

ARRAYS = ["pattern", "attn_out", "mlp_out", "resid_post"]


def adapted_core(library: Library | None) -> tuple[EngineCore, Transformer]:
    model = random_model(LLAMA, native=library, max_adapters=2)
    assert model.adapters is not None
    model.adapters.load(5, random_factors(LLAMA, 1))
    config = EngineConfig(max_model_len=64, num_blocks=16, enable_prefix_caching=False)
    runner = make_core(model)._runner
    assert isinstance(runner, ModelRunner)
    inspector = LayerInspector(model, CPU, max_rows=3)
    loader = AdapterLoader(model.adapters, no_files, 1 << 20)
    return EngineCore(config, runner, inspect=inspector, adapters=loader), model


def values(traces: list[Trace]) -> list[float]:
    arrays = [array for trace in traces for array in trace.arrays.values()]
    found = [v for a in arrays for v in struct.unpack(f"<{len(a.data) // 4}f", a.data)]
    return [*found, *(logprob for t in traces for guesses in t.lens for _, logprob in guesses)]


@pytest.mark.parametrize("how", ["plain", "own"])
def test_as_merged_weights_show(how: str, request: pytest.FixtureRequest) -> None:
    torch.set_num_threads(1)
    library = request.getfixturevalue("native") if how == "own" else None
    core, model = adapted_core(library)
    asked = look(arrays=ARRAYS, has_lens=True, endings=["attribution", "head_scores"])
    edited = look("edit", edits=[EditSpec(at="head", change="zero", index=1)], num_continued=2)
    for one in (asked, edited):
        twin = EngineCore(
            EngineConfig(max_model_len=64, num_blocks=16),
            core._runner,
            inspect=LayerInspector(merged_model(LLAMA, random_factors(LLAMA, 1)), CPU, max_rows=3),
        )
        twin.inspect(one)
        expected = values(finish(twin))
        core.inspect(type(one)(**{**_fields(one), "adapter": 5}))
        core.add(make_request("base", max_tokens=20))
        core.add(make_request("other", adapter=5, max_tokens=20))
        found = values(finish(core))
        assert found == pytest.approx(expected, abs=1e-3, rel=1e-3, nan_ok=True)
        core.inspect(one)
        assert values(finish(core)) != pytest.approx(expected, abs=1e-3, rel=1e-3, nan_ok=True)
    assert model.adapters is not None


def test_an_adapter_stays_while_it_is_looked_into() -> None:
    core, model = adapted_core(None)
    assert model.adapters is not None
    core.inspect(look(adapter=5))
    core.unload_adapter(5)
    core.step()
    assert 5 in model.adapters.slots
    finish(core)
    core.step()
    assert 5 not in model.adapters.slots
    core.inspect(look("late", adapter=5))
    assert [trace.error for trace in finish(core)] == [ADAPTER_GONE]


def _fields(request: object) -> dict[str, object]:
    return {name: getattr(request, name) for name in type(request).__struct_fields__}

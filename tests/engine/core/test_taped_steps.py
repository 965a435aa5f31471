"""Steps of up to 64 tokens come from tape, those with a prompt's tokens among them."""

import pytest
import torch

from tests.engine.toy import make_request, toy_config
from tests.model.tiny import LLAMA, make_cache, random_model
from thirdeye.model.native.library import Library
from thirdeye.model.native.tapes.tape import Tape
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner


def test_a_prompt_beside_answers_is_on_tape(
    native: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same comes three times: each shape's second step is recorded, so of the third time no
    step goes without."""
    sizes: list[int] = []
    replay = Tape.replay
    monkeypatch.setattr(Tape, "replay", lambda tape: sizes.append(len(tape.output)) or replay(tape))
    model = random_model(LLAMA, quantize="int8", native=native)
    config = toy_config(num_blocks=64, block_size=4, max_model_len=64)
    runner = ModelRunner(model, make_cache(LLAMA, 64, 4), config, torch.device("cpu"))
    core = EngineCore(config, runner, fast_paths=[model.tape])
    for turn in range(3):
        sizes.clear()
        ways = {"cache_salt": str(turn), "ignore_eos": True}
        for i in range(3):
            core.add(make_request(f"{turn}, {i}", [5 + i, 6, 7], max_tokens=6, **ways))
        num_steps = core.stats().steps_total
        core.step()
        core.step()
        core.add(make_request(f"{turn}, long", range(1, 31), max_tokens=2, **ways))
        while core.has_work:
            core.step()
        num_steps = core.stats().steps_total - num_steps
    assert len(sizes) == num_steps
    assert 3 + 30 in sizes, "a prompt of 30 beside three answers"
    assert core.stats().missed_paths == []

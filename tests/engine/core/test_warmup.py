"""The first user finds an engine that has worked, and no trace of what it worked on."""

import torch

from tests.engine.toy import ToyCache, ToyModel, greedy_reference, make_request, toy_config
from tests.model.tiny import LLAMA, make_cache, random_model
from thirdeye.model.native.library import Library
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.core.warmup import warm_up
from thirdeye.server.engine.execution.model_runner import ModelRunner


class CountingModel(ToyModel):
    num_steps = 0
    num_rows = 0

    def __call__(self, batch, kv_cache, /):
        self.num_steps += 1
        self.num_rows = max(self.num_rows, len(batch.seq_lens))
        return super().__call__(batch, kv_cache)


def test_steps_of_each_kind_and_no_trace():
    """A prompt and a token behind it were computed, for two rows at once; counters know nothing,
    and the first real answer is what it would have been."""
    config, model = toy_config(), CountingModel()
    runner = ModelRunner(model, ToyCache(config.num_blocks, config.block_size), config, "cpu")
    warm_up(runner, config)
    assert model.num_steps >= 2
    assert model.num_rows == 2
    core = EngineCore(config, runner)
    assert core.stats().steps_total == 0
    core.add(make_request(max_tokens=8))
    tokens = []
    while core.has_work:
        tokens += [token for output in core.step() for token in output.token_ids]
    assert tokens == greedy_reference(make_request(max_tokens=8))
    assert core.stats().prefix_cache_hits_total == 0


def test_what_cannot_be_recorded_is_known_afterwards(native: Library):
    """A step's shape comes twice, so the ready line can say what the tape does not take."""
    for is_odd in (False, True):
        model = random_model(LLAMA, quantize="int8", native=native)
        if is_odd:
            model.blocks[0].register_forward_hook(lambda block, inputs, x: x.relu())
        config = toy_config(num_blocks=16, block_size=4, max_model_len=64)
        runner = ModelRunner(model, make_cache(LLAMA), config, torch.device("cpu"))
        warm_up(runner, config)
        assert model.tape.reason == ("aten.relu.default" if is_odd else "")
        core = EngineCore(config, runner, fast_paths=[model.tape])
        before = model.tape.num_missed
        core.add(make_request(max_tokens=4))
        while core.has_work:
            core.step()
        missed = core.stats().missed_paths
        assert [(m.path, m.reason) for m in missed] == [
            ("whole tape", "aten.relu.default")
        ] * is_odd
        assert not is_odd or before < missed[0].num_steps <= before + 4  # some shapes are new

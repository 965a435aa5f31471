"""The first user finds an engine that has worked, and no trace of what it worked on."""

from tests.engine.toy import ToyCache, ToyModel, greedy_reference, make_request, toy_config
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

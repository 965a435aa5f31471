"""The token budget follows the speed that steps show; what the operator asked for stands."""

from tests.engine.toy import make_request
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.step_pace import StepPace

SIZES = {"max_model_len": 4096, "num_blocks": 256, "max_num_seqs": 64}


def paced(**changes: float) -> EngineConfig:
    return EngineConfig(
        **({**SIZES, "max_num_batched_tokens": 1024, "step_seconds": 0.25} | changes)
    )


def test_a_fixed_budget_stays() -> None:
    pace = StepPace(paced(step_seconds=0.0))
    pace.observe(1024, 60.0)
    assert pace.num_tokens == 1024


def test_it_begins_in_the_middle_and_follows_the_speed() -> None:
    pace = StepPace(paced())
    assert pace.num_tokens == 256
    pace.observe(256, 0.125)  # 2,048 tokens a second
    assert pace.num_tokens == 512
    pace.observe(512, 0.5)  # 1,024 a second: a quarter of the way down
    assert pace.num_tokens == 448
    for _ in range(50):
        pace.observe(512, 100.0)
    assert pace.num_tokens == 128, "never fewer than twice the rows"
    for _ in range(50):
        pace.observe(1024, 0.001)
    assert pace.num_tokens == 1024, "never more than the most"


def test_decoding_alone_tells_nothing() -> None:
    pace = StepPace(paced())
    pace.observe(64, 10.0)
    pace.observe(256, 0.0)
    assert pace.num_tokens == 256


def test_the_scheduler_keeps_to_it() -> None:
    scheduler = Scheduler(paced())
    scheduler.add(make_request("long", [1] * 2000, max_tokens=1))
    assert scheduler.schedule().num_scheduled_tokens == 256

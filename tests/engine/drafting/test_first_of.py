"""Copies are guessed from the text, all else by a model: each is told of its own guesses alone."""

from tests.engine.drafting.draft_twin import Checked, draft_config
from tests.engine.drafting.test_draft_model import DRAFTING
from tests.engine.toy import (
    ToyCache,
    ToyModel,
    greedy_reference,
    make_request,
    run_all,
    tokens_of,
    toy_config,
)
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.each_text import EachText
from thirdeye.server.engine.drafting.first_of import FirstOf
from thirdeye.server.engine.drafting.prompt_lookup import PromptLookup
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.step_plan import PlanRow


class Told(Checked):
    """Notes what it is asked for and told."""

    def __init__(self) -> None:
        super().__init__(draft_config(toy_config(**DRAFTING)))
        self.told: list[tuple[str, int]] = []

    def judge(self, row: PlanRow, num_right: int) -> None:
        self.told.append((row.sequence.request.request_id, len(row.draft_token_ids)))
        super().judge(row, num_right)


class Noted(EachText):
    def __init__(self) -> None:
        super().__init__(PromptLookup)
        self.told: list[tuple[str, int]] = []

    def judge(self, row: PlanRow, num_right: int) -> None:
        self.told.append((row.sequence.request.request_id, len(row.draft_token_ids)))


def test_each_is_told_of_its_own() -> None:
    """One says the same over and over, the other what nobody can copy."""
    config = toy_config(**DRAFTING)
    first, second = Noted(), Told()
    runner = ModelRunner(ToyModel(), ToyCache(64, 4), config, "cpu")
    scheduler = Scheduler(config, proposer=FirstOf(first, second))
    core = EngineCore(config, runner, scheduler)
    copies = make_request("copies", [5, 6], max_tokens=40, logit_bias={9: 100.0})
    free = make_request("free", [5, 6, 7], max_tokens=30, ignore_eos=True)
    outputs = run_all(core, [copies, free])
    assert tokens_of(outputs["copies"]) == [9] * 40
    assert tokens_of(outputs["free"]) == greedy_reference(free)
    assert sum(n for name, n in first.told if name == "copies") > 20
    assert sum(n for name, n in second.told if name == "free") > 5
    told = sum(n for _, n in first.told + second.told)
    assert told == core.stats().spec_decode_num_draft_tokens_total
    assert second._pool.num_used == 0

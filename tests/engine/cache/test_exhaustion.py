"""A pool far too small: everybody is answered all the same, with the same answer."""

import random
from functools import cache

import pytest

from tests.engine.toy import make_request, run_all, tokens_of, toy_config, toy_core
from thirdeye.server.engine.interface.engine_config import Admission
from thirdeye.server.engine.interface.types import FinishReason, Request

BLOCK_SIZE = 4
POOL = 16


def requests() -> list[Request]:
    """200 requests that will hold 1 to 16 blocks at their end."""
    chance = random.Random(7)
    made: list[Request] = []
    for i in range(200):
        length = chance.randint(1, POOL) * BLOCK_SIZE
        num_prompt = chance.randint(1, length - 1)
        prompt = [chance.choice([5, 6]) for _ in range(num_prompt)]
        made.append(
            make_request(
                str(i),
                prompt,
                max_tokens=length - num_prompt,
                ignore_eos=True,
                tenant=chance.choice("abc"),
                priority=chance.choice([0, 0, 1]),
            )
        )
    return made


@cache  # both are compared with one large pool's
def answers(num_blocks: int, admission: Admission) -> tuple[dict[str, list[int]], int]:
    """The tokens of every request, and how often one was preempted."""
    config = toy_config(
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        max_model_len=POOL * BLOCK_SIZE,
        admission=admission,
    )
    core = toy_core(config)
    outputs = run_all(core, requests())
    reasons = {of_one[-1].finish_reason for of_one in outputs.values()}
    assert reasons == {FinishReason.LENGTH}
    assert core.stats().num_blocks_used == 0
    return {name: tokens_of(of_one) for name, of_one in outputs.items()}, (
        core.stats().preemptions_total
    )


@pytest.mark.parametrize("admission", list(Admission))
def test_200_of_200_are_answered_as_with_a_large_pool(admission: Admission) -> None:
    small, num_preemptions = answers(POOL, admission)
    large, _ = answers(POOL * 40, Admission.PREEMPT)
    assert len(small) == 200
    assert small == large
    assert (num_preemptions > 0) == (admission is Admission.PREEMPT)

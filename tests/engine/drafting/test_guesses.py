"""Models that guess change how many steps an answer takes, and nothing else about it; and each
guess is the one that a twin makes which keeps nothing and computes the whole text anew."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import also_at_night, draws, is_night
from tests.engine.drafting.conftest import DRAFTING, REQUESTS
from tests.engine.drafting.draft_twin import drafting_core
from tests.engine.drafting.head_twin import headed_core
from tests.engine.execution.test_model_runner import alone, answer
from tests.engine.scheduling.speculation.test_speculation import SIZES, Answers, all_requests
from tests.engine.toy import drain, run_all, toy_config
from thirdeye.server.engine.interface.types import StepOutput

MORE_SIZES = SIZES | {"small chunks": {"max_num_seqs": 3, "max_num_batched_tokens": 16}}
ROOMS = [
    ("batched", 64),
    ("batched", 24),
    ("alone, one after the other", 64),
    ("without prefix cache", 64),
    ("small chunks", 64),
    ("starved, chunked", 64),
]
CASES = [(make, *room) for make in (drafting_core, headed_core) for room in ROOMS]
CASES += [(drafting_core, "starved, chunked", 24), (drafting_core, "blocks of 16", 64)]
AT_NIGHT = [  # of which the other kind has the like at each push
    (drafting_core, "alone, one after the other", 64),
    (headed_core, "without prefix cache", 64),
    (headed_core, "batched", 64),
]


@also_at_night
@pytest.mark.parametrize(
    ("make_core", "name", "num_blocks"),
    [case for case in CASES if is_night() or case not in AT_NIGHT],
)
def test_same_answers_and_no_stale_guess(
    make_core: Callable[..., Any],
    name: str,
    num_blocks: int,
    expected: Answers,
) -> None:
    core, proposer = make_core(toy_config(**(DRAFTING | MORE_SIZES[name])), num_blocks)
    outputs = run_all(core, REQUESTS)
    assert {name: answer(of_one) for name, of_one in outputs.items()} == expected
    stats = core.stats()
    assert proposer.num_checked > 0
    assert stats.spec_decode_num_accepted_tokens_total > 0
    assert stats.spec_decode_num_accepted_tokens_total < stats.spec_decode_num_draft_tokens_total
    assert proposer._pool.num_used == 0


@pytest.mark.parametrize("make_core", [drafting_core, headed_core])
@draws(3, 40)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_same_answers_for_any_sizes_and_aborts(
    make_core: Callable[..., Any], data: st.DataObject, seed: int
) -> None:
    requests = random.Random(seed).sample(all_requests(seed), 6)
    plain = alone(requests)
    max_num_seqs = data.draw(st.integers(1, 5))
    config = toy_config(
        num_blocks=data.draw(st.sampled_from([32, 40, 128])),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + data.draw(st.integers(0, 30)),
        num_draft_tokens=data.draw(st.integers(1, 20)),
        max_tokens_with_drafts=data.draw(st.integers(2, 64)),
        enable_prefix_caching=data.draw(st.booleans()),
    )
    core, proposer = make_core(config, data.draw(st.integers(4, 128)))
    for request in requests:
        core.add(request)
    gone = data.draw(st.sampled_from(requests)).request_id
    outputs: dict[str, list[StepOutput]] = {}
    for _ in range(data.draw(st.integers(0, 12))):
        for output in core.step():
            outputs.setdefault(output.request_id, []).append(output)
    core.abort(gone)
    for name, more in drain(core).items():
        outputs.setdefault(name, []).extend(more)
    for request in requests:
        if request.request_id != gone:
            assert answer(outputs[request.request_id]) == plain[request.request_id]
    assert not proposer._has_failed
    assert proposer._pool.num_used == 0

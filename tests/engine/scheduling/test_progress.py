"""`return_progress`: an output for each chunk of a prompt but the last, and none later."""

import msgspec

from tests.engine.toy import make_request, run_all, toy_config, toy_core
from thirdeye.server.engine.interface.types import StepOutput


def outputs(return_progress: bool) -> list[StepOutput]:
    request = make_request("a", list(range(1, 23)), max_tokens=3, ignore_eos=True)
    request = msgspec.structs.replace(request, return_progress=return_progress)
    core = toy_core(toy_config(max_num_batched_tokens=8, max_num_seqs=1))
    return run_all(core, [request])["a"]


def test_each_chunk_but_the_last_tells_how_far_the_prompt_is() -> None:
    found = outputs(True)
    told = [output.progress for output in found if output.progress is not None]
    assert [p.num_computed_tokens for p in told] == [8, 16]
    assert all((p.num_prompt_tokens, p.num_cached_tokens) == (22, 0) for p in told)
    assert 0 <= told[0].elapsed_ms <= told[1].elapsed_ms
    assert all(not output.token_ids for output in found[:2])
    assert found[:2] == [output for output in found if output.progress is not None]


def test_nobody_is_told_who_did_not_ask() -> None:
    assert all(output.progress is None for output in outputs(False))

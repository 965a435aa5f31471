"""The same answer however the work is cut: model, cache, scheduler and sampler together."""

import random
from collections.abc import Sequence

import pytest
import torch

from tests.engine.toy import (
    EOS,
    ToyCache,
    ToyModel,
    greedy_reference,
    make_request,
    run_all,
    tokens_of,
    toy_config,
    toy_core,
    toy_logits,
)
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import FinishReason, Request, StepOutput


def mixed_requests(seed: int) -> list[Request]:
    """Greedy and drawn, short and long, with and without a shared beginning and logprobs."""
    chance = random.Random(seed)
    shared = [chance.randrange(1, 40) for _ in range(30)]
    requests: list[Request] = []
    for i in range(14):
        own = [chance.randrange(1, 40) for _ in range(chance.randrange(1, 40))]
        requests.append(
            make_request(
                str(i),
                shared[: chance.choice([0, 8, 30])] + own,
                max_tokens=chance.randrange(0, 25),
                temperature=chance.choice([0.0, 0.7, 1.0]),
                top_p=chance.choice([1.0, 0.9]),
                top_k=chance.choice([0, 5]),
                min_p=chance.choice([0.0, 0.05]),
                frequency_penalty=chance.choice([0.0, 0.5]),
                repetition_penalty=chance.choice([1.0, 1.2]),
                min_tokens=chance.choice([0, 3]),
                seed=chance.randrange(2**63),
                logprobs=chance.choice([None, 0, 3]),
                prompt_logprobs=chance.choice([None, None, 2]),
            )
        )
    return requests


def answer(outputs: Sequence[StepOutput]) -> tuple[object, ...]:
    """What a client sees, without what may differ: cached tokens and times."""
    logprobs = [entry for output in outputs for entry in output.logprobs or []]
    last = outputs[-1]
    assert [o.prompt_logprobs for o in outputs[1:]] == [None] * (len(outputs) - 1)
    return (tokens_of(outputs), logprobs, outputs[0].prompt_logprobs, last.finish_reason)


def answers(config: EngineConfig, requests: Sequence[Request]) -> dict[str, tuple[object, ...]]:
    outputs = run_all(toy_core(config), requests)
    return {request_id: answer(of_one) for request_id, of_one in outputs.items()}


def alone(requests: Sequence[Request]) -> dict[str, tuple[object, ...]]:
    """Each request in an engine of its own, whole, without prefix cache."""
    config = toy_config(max_num_batched_tokens=128, enable_prefix_caching=False)
    together: dict[str, tuple[object, ...]] = {}
    for request in requests:
        together |= answers(config, [request])
    return together


SIZES: dict[str, dict[str, object]] = {
    "batched": {},
    "without prefix cache": {"enable_prefix_caching": False},
    "chunks of 1": {"max_num_seqs": 1, "max_num_batched_tokens": 1},
    "chunks of 7": {"max_num_seqs": 7, "max_num_batched_tokens": 7},
    "chunks of 64": {"max_num_batched_tokens": 64},
    "starved pool": {"num_blocks": 32},
    "starved, chunked": {"num_blocks": 32, "max_num_seqs": 5, "max_num_batched_tokens": 9},
    "blocks of 16": {"block_size": 16, "num_blocks": 16},
}


@pytest.mark.parametrize("name", SIZES)
def test_same_prompt_same_answer(name: str) -> None:
    """Tokens and logprobs are bit-equal alone or together, whole or chunked, preempted or not."""
    requests = mixed_requests(seed=1)
    expected = alone(requests)
    random.Random(2).shuffle(requests)
    assert answers(toy_config(**SIZES[name]), requests) == expected


def test_starved_pool_does_preempt() -> None:
    """Guards the suite above: a pool that never runs out would prove nothing."""
    core = toy_core(toy_config(num_blocks=32))
    outputs = run_all(core, [make_request(str(i), [i + 1] * 20, max_tokens=60) for i in range(8)])
    assert core.stats().preemptions_total > 0
    assert sum(o[-1].timings.num_preemptions for o in outputs.values() if o[-1].timings) > 0
    assert core.stats().num_blocks_used == 0


@pytest.mark.parametrize("length", [1, 3, 4, 5, 63, 64, 65])
def test_greedy_equals_recomputing_everything(length: int) -> None:
    """Prompts around the borders of blocks and chunks."""
    request = make_request(prompt=[1 + i % 39 for i in range(length)], max_tokens=30)
    (outputs,) = run_all(toy_core(), [request]).values()
    assert tokens_of(outputs) == greedy_reference(request)


def test_second_turn_is_cached_and_equal() -> None:
    """A prefix hit changes the work and not the answer, and is reported."""
    core = toy_core()
    prompt = [1 + i % 39 for i in range(40)]
    first, second = (
        run_all(core, [make_request(name, prompt, max_tokens=6)])[name] for name in ("a", "b")
    )
    assert tokens_of(first) == tokens_of(second)
    assert [o.num_cached_tokens for o in first] == [0] * len(first)
    assert [o.num_cached_tokens for o in second] == [36] * len(second)  # 40 would leave no logits
    longer = make_request("c", [*prompt, *tokens_of(first), 9, 9], max_tokens=6)
    assert run_all(core, [longer])["c"][0].num_cached_tokens >= 40
    stats = core.stats()
    assert (stats.prefix_cache_queries_total > 0, stats.prefix_cache_hits_total >= 76) == (
        True,
        True,
    )


def test_prompt_logprobs_are_those_of_the_prompt() -> None:
    """Also when the prompt is known to the cache, and when only scoring is asked for."""
    prompt = [5, 9, 3, 3, 17, 5, 9, 3, 3, 17]
    core = toy_core(toy_config(max_num_seqs=3, max_num_batched_tokens=3))
    run_all(core, [make_request("warm", prompt)])
    (output,) = run_all(core, [make_request("s", prompt, max_tokens=0, prompt_logprobs=2)])["s"]
    assert (output.finish_reason, output.token_ids) == (FinishReason.LENGTH, [])
    assert output.num_cached_tokens == 0
    assert output.prompt_logprobs is not None
    for i, entry in enumerate(output.prompt_logprobs, start=1):
        expected = toy_logits(prompt[:i]).log_softmax(-1)
        assert entry.token_id == prompt[i]
        assert entry.logprob == expected[prompt[i]].item()
        assert entry.rank == int((expected > expected[prompt[i]]).sum()) + 1
        assert entry.top == list(
            zip(expected.topk(2).indices.tolist(), expected.topk(2).values.tolist(), strict=True)
        )
    assert len(output.prompt_logprobs) == len(prompt) - 1


class BrokenFor(ToyModel):
    """Says NaN for every row of a sequence that begins with 13."""

    def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
        logits = super().__call__(batch, kv_cache)
        for s, t in enumerate(batch.logits_indices.tolist()):
            b = int(torch.searchsorted(batch.query_start_loc, t, right=True)) - 1
            if kv_cache.tokens[int(batch.block_table[b, 0]) * kv_cache.block_size] == 13:
                logits[s, 7] = torch.nan
        return logits


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logprobs", [None, 2])
def test_nan_fails_that_request_alone(temperature: float, logprobs: int | None) -> None:
    good = make_request("good", [5, 6], seed=3, temperature=temperature, logprobs=logprobs)
    bad = make_request("bad", [13, 6], temperature=temperature, logprobs=logprobs)
    outputs = run_all(toy_core(model=BrokenFor()), [bad, good])
    assert [(o.finish_reason, o.token_ids) for o in outputs["bad"]] == [(FinishReason.ERROR, [])]
    assert "not a number" in (outputs["bad"][0].error or "")
    assert answer(outputs["good"]) == alone([good])["good"]


def test_a_failing_processor_fails_that_request_alone() -> None:
    """Also when the next row begins where this one's logits end."""
    good = [make_request(str(i), [5, 6 + i]) for i in range(2)]
    bad = make_request("bad", logit_bias={VOCAB_TOO_LARGE: 1.0})
    outputs = run_all(toy_core(), [good[0], bad, good[1]])
    assert [o.finish_reason for o in outputs["bad"]] == [FinishReason.ERROR]
    for request in good:
        assert tokens_of(outputs[request.request_id]) == greedy_reference(request)


VOCAB_TOO_LARGE = 10**6


def test_stops_at_eos_stop_ids_and_a_full_context() -> None:
    long = make_request("long", [5] * 100, max_tokens=1000, ignore_eos=True)
    stop = make_request("stop", [5, 6, 7], max_tokens=50)
    third = greedy_reference(stop)[2]
    stop = make_request("stop", [5, 6, 7], max_tokens=50, stop_token_ids=[third])
    outputs = run_all(toy_core(), [long, stop])
    assert len(tokens_of(outputs["long"])) == 28
    assert outputs["long"][-1].finish_reason is FinishReason.LENGTH
    last = outputs["stop"][-1]
    assert (last.finish_reason, last.stop_token_id) == (FinishReason.STOP, third)
    assert tokens_of(outputs["stop"])[-1] == third
    for i in range(1, 40):
        outputs = run_all(toy_core(), [make_request("eos", [i], max_tokens=100)])
        if tokens_of(outputs["eos"])[-1] == EOS:
            last = outputs["eos"][-1]
            assert (last.finish_reason, last.stop_token_id) == (FinishReason.STOP, None)
            break
    else:
        pytest.fail("no answer ended by itself")

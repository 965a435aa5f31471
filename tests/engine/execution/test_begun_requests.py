"""A request that was begun elsewhere goes on as it would have there: tokens, logprobs and reason
are those of the whole answer from that token on, bit for bit, whatever shares the batch."""

from typing import Any

import msgspec
import pytest

from tests.engine.execution.request_mixes import CUTS, make_core
from tests.engine.toy import make_request, run_all, tokens_of
from tests.model.tiny import LLAMA, change, random_model
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.interface.types import Request

PROMPT = [5, 6, 7, 5, 6, 7, 9] * 3
NUM_TOKENS = 24
SAMPLINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 1.3, "seed": 11},
    {"temperature": 0.8, "seed": 2**62, "top_p": 0.9, "top_k": 30, "min_p": 0.01},
    {"frequency_penalty": 1.5, "presence_penalty": 0.7},
    {"temperature": 1.0, "seed": 3, "frequency_penalty": -0.4, "repetition_penalty": 1.4},
    {"temperature": 1.0, "seed": 5, "min_tokens": 15, "stop_token_ids": list(range(0, 97, 3))},
    {"temperature": 1.0, "seed": 8, "logit_bias": {9: 4.0}},
]


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_model(change(LLAMA, max_position_embeddings=160))


def asked(number: int, sampling: dict[str, Any]) -> Request:
    return make_request(
        f"{number}", PROMPT, logprobs=2, max_tokens=NUM_TOKENS, ignore_eos=True, **sampling
    )


@pytest.mark.parametrize("cut", ["whole", "chunks of 7"])
@pytest.mark.parametrize("num_draft_tokens", [0, 6])
def test_it_goes_on_with_the_same_bits(model: Transformer, cut: str, num_draft_tokens: int) -> None:
    requests = [asked(number, sampling) for number, sampling in enumerate(SAMPLINGS)]
    wholes = run_all(make_core(model, **CUTS[cut]), requests)
    begun = []
    for request in requests:
        token_ids = tokens_of(wholes[request.request_id])
        for known in {1, len(token_ids) // 2, len(token_ids) - 1} - {0}:
            fields = {
                "request_id": f"{request.request_id} from {known}",
                "answer_token_ids": token_ids[:known],
            }
            begun.append(msgspec.structs.replace(request, **fields))
    assert len(begun) > len(requests)
    core = make_core(model, num_draft_tokens=num_draft_tokens, **CUTS[cut])
    for _ in range(2):  # the second time the cache knows prompts and answers
        found = run_all(core, begun)
        for request in begun:
            name, _, known = request.request_id.partition(" from ")
            outputs, whole = found[request.request_id], wholes[name]
            assert tokens_of(outputs) == tokens_of(whole)[int(known) :]
            assert scores_of(outputs) == scores_of(whole)[int(known) :]
            assert outputs[-1].finish_reason == whole[-1].finish_reason
            assert outputs[-1].stop_token_id == whole[-1].stop_token_id
            assert outputs[-1].num_cached_tokens <= len(PROMPT)
    assert core.stats().num_blocks_used == 0


def scores_of(outputs: list[Any]) -> list[Any]:
    return [entry for output in outputs for entry in output.logprobs or []]

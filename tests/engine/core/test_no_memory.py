"""No memory in fifty steps at random: their requests alone fail, and all else is right."""

import random

import pytest
import torch

from tests.engine.toy import (
    ToyCache,
    ToyModel,
    greedy_reference,
    make_request,
    tokens_of,
    toy_core,
)
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.interface.types import ErrorCode, FinishReason, StepOutput

NUM_FAULTS = 50
TOO_MUCH = 1 << 46  # bytes: no machine has them, and no overcommit gives them


class NoMemory(ToyModel):
    """Some steps ask for more memory than there is, for real, or hear so from a device."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self._faults = set(chance.sample(range(3, 400), NUM_FAULTS))
        self._kinds = chance
        self._step = 0
        self.num_failed = 0

    def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
        self._step += 1
        if self._step in self._faults:
            self.num_failed += 1
            kv_cache.tokens[batch.slot_mapping] = 99  # half done: must never be read
            match self._kinds.choice(["host", "device", "python"]):
                case "host":
                    torch.empty(TOO_MUCH, dtype=torch.uint8)
                case "device":
                    raise torch.OutOfMemoryError("of 80 GiB")
                case _:
                    bytearray(TOO_MUCH)
        return super().__call__(batch, kv_cache)


@pytest.mark.parametrize("seed", range(2))
def test_fifty_steps_without_memory(seed: int) -> None:
    model = NoMemory(seed)
    core = toy_core(model=model)
    outputs: dict[str, list[StepOutput]] = {}
    requests = {}
    chance = random.Random(seed + 1)
    while model.num_failed < NUM_FAULTS:
        if len(requests) - sum(o[-1].finish_reason is not None for o in outputs.values()) < 6:
            request = make_request(
                str(len(requests)), [chance.choice([5, 6])] * chance.randint(1, 12)
            )
            requests[request.request_id] = request
            core.add(request)
        for output in core.step():
            outputs.setdefault(output.request_id, []).append(output)
    while core.has_work:
        for output in core.step():
            outputs.setdefault(output.request_id, []).append(output)
    failed = [o for o in outputs.values() if o[-1].finish_reason is FinishReason.ERROR]
    assert {of_one[-1].error_code for of_one in failed} == {ErrorCode.OUT_OF_MEMORY}
    for request_id, of_one in outputs.items():
        reference = greedy_reference(requests[request_id])
        assert tokens_of(of_one) == reference[: len(tokens_of(of_one))]
        assert of_one in failed or tokens_of(of_one) == reference
    assert len(outputs) == len(requests)
    assert len(failed) < len(requests)
    assert core.stats().num_blocks_used == 0

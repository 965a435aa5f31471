"""Steps of up to 64 tokens come from tape, those with a prompt's tokens among them."""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from tests.engine.toy import make_request, toy_config
from tests.model.tiny import LLAMA, change, make_cache, random_model
from thirdeye.model.batch import ForwardBatch, PlainStep
from thirdeye.model.native.library import Library
from thirdeye.model.native.tapes.tape import Tape
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_groups import kv_groups
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.each_text import Drafter, EachText
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.sampling.native_sampler import NativeSampler


def test_a_prompt_beside_answers_is_on_tape(
    native: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same comes three times: each shape's second step is recorded, so of the third time no
    step goes without."""
    sizes: list[int] = []
    replays: list[Tape] = []
    replay = Tape.replay
    monkeypatch.setattr(Tape, "replay", lambda tape: replays.append(tape) or replay(tape))
    model = random_model(LLAMA, quantize="int8", native=native)
    config = toy_config(num_blocks=64, block_size=4, max_model_len=64)

    def noted(batch: ForwardBatch, cache: KVCache) -> Tensor:
        sizes.append(len(batch.input_ids))
        return model(batch, cache)

    runner = ModelRunner(noted, make_cache(LLAMA, 64, 4), config, torch.device("cpu"))
    core = EngineCore(config, runner, fast_paths=[model.tape])
    for turn in range(3):
        sizes.clear()
        replays.clear()
        ways = {"cache_salt": str(turn), "ignore_eos": True}
        for i in range(3):
            core.add(make_request(f"{turn}, {i}", [5 + i, 6, 7], max_tokens=6, **ways))
        num_steps = core.stats().steps_total
        core.step()
        core.step()
        core.add(make_request(f"{turn}, long", range(1, 31), max_tokens=2, **ways))
        while core.has_work:
            core.step()
        num_steps = core.stats().steps_total - num_steps
    assert len(replays) == len(sizes) == num_steps
    assert 3 + 30 in sizes, "a prompt of 30 beside three answers"
    assert core.stats().missed_paths == []


WAYS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.8, "seed": 3},
    {},
    {"temperature": 1.2, "top_p": 0.9, "seed": 4},
    {"logprobs": 2},
    {"frequency_penalty": 0.5},
]


@pytest.mark.parametrize("window", [None, 20])
def test_steps_from_their_numbers(native: Library, window: int | None) -> None:
    """The same answers as from tensors, of several sequences that come and go, are longer than a
    block table's first columns, and draw, or ask for more than a token; from the third step of a
    shape on no tensor is made. So it is with guesses, right ones and wrong ones. Logits are there
    for one step alone, and nobody looks at them later.
    """
    torch.set_num_threads(1)
    spec = replace(LLAMA.attention_of(0), window=window)
    described = change(
        LLAMA, attention=(spec,) * LLAMA.num_hidden_layers, max_position_embeddings=128
    )
    model = random_model(described, quantize="int8", native=native)
    sizes: dict[str, Any] = {"num_blocks": 192, "max_model_len": 128}
    config = toy_config(windows=kv_groups(described).windows, **sizes)

    def answers(
        made: list[PlainStep] | None, drafter: Callable[[], Drafter] = Nothing
    ) -> dict[str, tuple[list[int], list[Any]]]:
        cache = make_cache(described, 192, 4)
        decode = model.decoder(cache)
        assert decode is not None
        noted = None if made is None else note_made(decode, made)
        runner = ModelRunner(model, cache, config, "cpu", NativeSampler(native), decode=noted)
        guessing = msgspec.structs.replace(config, num_draft_tokens=3)
        core = EngineCore(guessing, runner, proposer=EachText(drafter))
        found: dict[str, tuple[list[int], list[Any]]] = {}
        for number, prompt in enumerate(PROMPTS):
            ways = WAYS[(number + 1) % len(WAYS)] | {
                "max_tokens": 4 + 4 * number,
                "ignore_eos": True,
            }
            core.add(make_request(str(number), prompt, **ways))
            for _ in range(2 if number < 11 else 99):
                if core.has_work:
                    for output in core.step():
                        token_ids, logprobs = found.setdefault(output.request_id, ([], []))
                        token_ids += output.token_ids
                        logprobs += output.logprobs or []
        return found

    expected, plain, guessed = answers(None), list[PlainStep](), list[PlainStep]()
    assert answers(plain) == expected
    assert len(plain) > 10
    texts = [prompt + expected[str(number)][0] for number, prompt in enumerate(PROMPTS)]
    assert answers(guessed, lambda: HalfRight(texts)) == expected
    assert sum(max(step.counts) > 1 for step in guessed) > 5


PROMPTS = [[(7 * number + i) % 97 for i in range(1 + 5 * number)] for number in range(12)]


class Nothing:
    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        return []


class HalfRight:
    """It knows the texts, and is wrong about a token now and then."""

    def __init__(self, texts: Seq[list[int]]) -> None:
        self._texts = texts

    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        length = len(token_ids)
        text = next(text for text in self._texts if text[:length] == token_ids)
        return [
            token_id if at % 5 else (token_id + 1) % 97
            for at, token_id in enumerate(text[length : length + limit], start=length)
        ]


def note_made(
    decode: Callable[[PlainStep], Tensor | None], made: list[PlainStep]
) -> Callable[[PlainStep], Tensor | None]:
    last: list[Tensor] = []

    def noted(step: PlainStep) -> Tensor | None:
        with torch.inference_mode():
            while last:
                last.pop().fill_(torch.nan)
        assert all(block >= 0 for table in step.tables for block in table), "given back"
        logits = decode(step)
        if logits is not None:
            last.append(logits)
            made.append(step)
        return logits

    return noted

"""Answers with adapters and without, in one batch: each is bit for bit what it is alone, and what
an engine over merged weights says."""

from collections.abc import Sequence

import msgspec
import pytest
import torch

from tests.draws import also_at_night, count
from tests.engine.execution.request_mixes import CUTS, Answer, alone, answers, make_core
from tests.engine.toy import make_request, tokens_of
from tests.model.lora.adapters import merged_model, random_factors
from tests.model.tiny import BESIDE, LLAMA, change, random_model
from thirdeye.model.native.library import Library
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import Request, StepOutput

CONTEXT = 160
CONFIG = change(LLAMA, max_position_embeddings=CONTEXT)
STATES = change(BESIDE, max_position_embeddings=CONTEXT)
STARVED = count(11, 12)  # KV blocks: two requests fit until their answers grow
POET, CLERK = 4, 6  # adapters' numbers


def adapted(config=CONFIG, quantize: str = "none", native: Library | None = None) -> Transformer:
    model = random_model(config, quantize=quantize, native=native, max_adapters=2)
    assert model.adapters is not None
    model.adapters.load(POET, random_factors(config, 1))
    model.adapters.load(CLERK, random_factors(config, 2, rank=20, size=0.1))
    return model


@pytest.fixture(scope="module", params=["torch", "native", "native int8", "states"])
def model(request: pytest.FixtureRequest) -> Transformer:
    how = request.param
    native = None if how.startswith("torch") else request.getfixturevalue("native")
    config = STATES if how == "states" else CONFIG
    return adapted(config, "int8" if "int8" in how else "none", native)


def requests(number: int = 6) -> list[Request]:
    """The same long beginning under both adapters and none: who finds another's blocks is wrong."""
    return [
        make_request(
            str(i),
            [*range(1, 49), *[i // 3 + 1] * count(30, 20)],
            adapter=(0, POET, CLERK)[i % 3],
            max_tokens=count(8, 30),
            ignore_eos=True,
            logprobs=2,
            temperature=i % 2,
            seed=i,
        )
        for i in range(number)
    ]


@also_at_night
def test_in_any_company(model: Transformer) -> None:
    """Together, in any order, in chunks, preempted, behind prefixes that are there, with drafts of
    either kind."""
    torch.set_num_threads(1)
    asked = requests()
    expected = alone(lambda: make_core(model, enable_prefix_caching=False), asked)
    starved, warm = make_core(model, num_blocks=STARVED), make_core(model)
    cut = make_core(model, **CUTS["chunks of 7"])
    guessed = make_core(model, num_draft_tokens=6, draft=random_model(CONFIG))
    for core in (starved, warm, cut, make_core(model, num_draft_tokens=6), guessed):
        assert answers(core, asked) == expected
    assert guessed.stats().spec_decode_num_draft_tokens_total > 0
    assert answers(warm, asked[::-1]) == expected
    assert starved.stats().preemptions_total > 0
    assert warm.stats().prefix_cache_hits_total > 0
    torch.set_num_threads(2)
    assert answers(warm, asked) == expected


def test_who_has_none_is_served_as_without_adapters(native: Library) -> None:
    """Bit for bit, whoever shares the batch."""
    asked = requests()
    plain = [one for one in asked if not one.adapter]
    base = random_model(CONFIG, quantize="int8", native=native)
    expected = answers(make_core(base), plain)
    mixed = answers(make_core(adapted(quantize="int8", native=native)), asked)
    assert {name: mixed[name] for name in expected} == expected


@also_at_night
def test_as_merged_weights_say() -> None:
    """Greedy tokens of an engine over each adapter's merged weights."""
    asked = [msgspec.structs.replace(one, sampling=greedy(one)) for one in requests()]
    mixed = answers(make_core(adapted()), asked)
    for number, factors in (
        (POET, random_factors(CONFIG, 1)),
        (CLERK, random_factors(CONFIG, 2, rank=20, size=0.1)),
    ):
        own = [one for one in asked if one.adapter == number]
        plain = [msgspec.structs.replace(one, adapter=0) for one in own]
        twin = answers(make_core(merged_model(CONFIG, factors)), plain)
        assert tokens(mixed, own) == tokens(twin, own)
    assert len({str(answer) for answer in tokens(mixed, asked[:3])}) == 3  # they differ


def greedy(request: Request):
    return msgspec.structs.replace(request.sampling, temperature=0.0)


def tokens(found: dict[str, Answer], of: Sequence[Request]) -> list[object]:
    return [found[one.request_id][0] for one in of]


def test_the_salt_keeps_prefixes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds another's blocks answers otherwise: this suite sees it."""
    model, asked = adapted(), requests(3)
    expected = alone(lambda: make_core(model), asked)
    assert answers(make_core(model, max_num_seqs=1), asked) == expected
    monkeypatch.setattr(Request, "prefix_salt", property(lambda request: request.cache_salt))
    assert answers(make_core(model, max_num_seqs=1), asked) != expected


def test_other_weights_under_another_number_find_nothing_stale() -> None:
    """As when an adapter is unloaded, and its name given to another: in the same slot."""
    model = adapted()
    assert model.adapters is not None
    core = make_core(model)
    (asked,) = (one for one in requests(3) if one.adapter == POET)
    first = answers(core, [asked])
    assert answers(core, [asked]) == first
    hits = core.stats().prefix_cache_hits_total
    assert hits > 0
    core.unload_adapter(POET)
    core.step()
    assert POET not in model.adapters.slots
    model.adapters.load(9, random_factors(CONFIG, 5))
    again = msgspec.structs.replace(asked, adapter=9)
    expected = answers(make_core(model, enable_prefix_caching=False), [again])
    assert answers(core, [again]) == expected != first
    assert core.stats().prefix_cache_hits_total == hits


def test_an_adapter_is_freed_when_the_last_request_has_ended() -> None:
    model = adapted()
    assert model.adapters is not None
    expected = answers(make_core(model), requests(3))
    core = make_core(model, max_num_seqs=1)
    for one in requests(3):
        core.add(one)
    outputs: dict[str, list[StepOutput]] = {name: [] for name in expected}
    for output in core.step():
        outputs[output.request_id].append(output)
    core.unload_adapter(POET)  # one of its requests waits still
    core.unload_adapter(77)  # of which nobody knows
    while core.has_work:
        if any(one.request_id == "1" for one in waiting(core)):
            assert POET in model.adapters.slots
            assert core.stats().waiting_adapters == [POET, CLERK]
        for output in core.step():
            outputs[output.request_id].append(output)
    assert {name: tokens_of(found) for name, found in outputs.items()} == {
        name: answer[0] for name, answer in expected.items()
    }
    assert list(model.adapters.slots) == [CLERK]
    assert core.stats().num_adapters == 1
    late = next(one for one in requests(3) if one.adapter == POET)
    core.add(late)
    (output,) = core.step()
    assert output.error_code == "model_not_found"
    assert "was unloaded" in (output.error or "")


def waiting(core: EngineCore) -> list[Request]:
    return [sequence.request for sequence in core._scheduler.queue()]

"""The decode step as a graph: recorded once for each bucket, replayed on the same addresses, equal
to the plain path bit for bit; and what fills up a bucket changes nothing."""

import random
from collections.abc import Callable
from functools import cache
from itertools import product

import pytest
import torch
from msgspec import structs

from tests.draws import also_at_night, count, is_night, pairwise
from tests.engine.execution.request_mixes import Answer, answers, make_core
from tests.engine.grammar.toy_grammars import ImmediateExecutor as Immediate
from tests.engine.grammar.toy_grammars import guidance
from tests.engine.run_ahead.engines import CountingLauncher, FixedShapes, Late, transformer_ahead
from tests.engine.scheduling.speculation.test_speculation import Prophet
from tests.engine.toy import make_request
from tests.model.tiny import GPT2, LLAMA, NEAR_AND_FAR, change, random_model
from tests.oracles.tape import Tape, capture_on_tape
from thirdeye.model.state.kv_groups import kv_groups
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.each_text import EachText
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture, make_buckets, rerun
from thirdeye.server.engine.run_ahead.cuda_stream import CpuStream
from thirdeye.server.engine.run_ahead.device_state import SlotField, StateUpdate
from thirdeye.server.text.constraints import constraint as grammar

CONTEXT = 64
NUM_REQUESTS = count(5, 10)
VOCAB = LLAMA.vocab_size
GRAMMARS = (grammar.regex("[ab]{30}"), grammar.regex("(ab|ba){2}0*"))
MODELS = {
    "llama": LLAMA,
    "llama-tied-mqa": change(LLAMA, num_heads=3, num_kv_heads=1, tie_word_embeddings=True),
    "gpt2": GPT2,
    "near and far": NEAR_AND_FAR,
}
CAPTURES: dict[str, Capture] = {"rerun": rerun, "tape": capture_on_tape}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Transformer:
    torch.set_num_threads(1)
    return random_model(MODELS[request.param], FixedShapes())


def config_of(model: Transformer, num_blocks: int = 24, **sizes: object) -> EngineConfig:
    """With so many blocks for each group of layers."""
    windows = kv_groups(model.config).windows
    defaults: dict[str, object] = {
        "max_model_len": CONTEXT,
        "num_blocks": num_blocks * len(windows),
        "windows": windows,
        "steps_ahead": 1,
        "max_num_seqs": 7,
        "max_num_batched_tokens": 40,
    }
    return EngineConfig(**(defaults | sizes))  # type: ignore[arg-type]  # plain test sizes


def mix(seed: int, number: int) -> list[Request]:
    """Greedy and drawn, in all three ways of sampling, with all that may be done to logits."""
    chance = random.Random(seed)
    plain = [
        make_request(
            str(i),
            [chance.randrange(97) for _ in range(chance.randint(1, 30))],
            max_tokens=chance.randint(2, 33),
            temperature=chance.choice([0.0, 0.7, 1.0]),
            top_k=chance.choice([0, 0, 5]),
            top_p=chance.choice([1.0, 1.0, 0.8]),
            min_p=chance.choice([0.0, 0.02]),
            seed=chance.randrange(2**64),
            frequency_penalty=chance.choice([0.0, 0.0, 0.3]),
            repetition_penalty=chance.choice([1.0, 1.0, 1.3]),
            logprobs=chance.choice([None, None, 3]),
            prompt_logprobs=chance.choice([None, None, 2]),
            logit_bias=chance.choice([{}, {}, {5: 4.0, 96: -2.0}]),
            min_tokens=chance.choice([0, 4]),
            stop_token_ids=chance.choice([[], [], list(range(8))]),
            ignore_eos=True,
        )
        for i in range(number)
    ]
    return [structs.replace(r, grammar=chance.choice(["", "", *GRAMMARS])) for r in plain]


@pytest.fixture(scope="module")
def plainly(model: Transformer) -> Callable[[int], dict[str, Answer]]:
    """What the plain loop answers to the mix of a seed; asked once, however the others are run."""

    @cache
    def answered(seed: int) -> dict[str, Answer]:
        plain = make_core(model, max_model_len=CONTEXT, num_blocks=40)
        plain._grammars = GrammarCompiler(guidance(VOCAB).compile, Immediate())
        return answers(plain, mix(seed, NUM_REQUESTS))

    return answered


@also_at_night
@pytest.mark.parametrize(
    ("model", "capture", "late"), pairwise(MODELS, CAPTURES, [False, True]), indirect=["model"]
)
def test_replayed_steps_are_the_plain_ones(
    model: Transformer, plainly: Callable[[int], dict[str, Answer]], capture: str, late: bool
) -> None:
    """Starved of blocks, with arrivals in waves: the same graphs see many rows come and go."""
    config = config_of(model, num_blocks=18, block_size=4)
    stream = Late() if late else CpuStream()
    core, launcher = transformer_ahead(model, config, CAPTURES[capture], stream)
    core._grammars = GrammarCompiler(guidance(VOCAB).compile, Immediate())
    for seed in range(2):
        assert answers(core, mix(seed, NUM_REQUESTS)) == plainly(seed)
    assert launcher.num_refused == 0
    assert launcher.num_decodes > 40
    assert core.stats().preemptions_total > 0
    assert core.stats().num_blocks_used == 0


def prophet(requests: list[Request], expected: dict[str, Answer]) -> EachText:
    """Guesses that are right two times in three."""
    said = {r.request_id: list(expected[r.request_id][0]) for r in requests}  # type: ignore[call-overload]  # token ids
    known = Prophet([[*r.prompt_token_ids, *said[r.request_id]] for r in requests], wrong=0.3)
    return EachText(lambda: known)


def some_to_guess(requests: list[Request]) -> list[Request]:
    """Every other one asks for nothing that looks back at its tokens."""
    for i in range(0, len(requests), 2):
        sampling = structs.replace(
            requests[i].sampling, frequency_penalty=0.0, repetition_penalty=1.0
        )
        requests[i] = structs.replace(requests[i], sampling=sampling, grammar="")
    return requests


@also_at_night
@pytest.mark.parametrize("capture", CAPTURES if is_night() else ["tape"])
def test_guesses_are_verified_by_the_same_steps(model: Transformer, capture: str) -> None:
    """A row of a graph for each; beside rows that may have none."""
    requests = some_to_guess(mix(0, NUM_REQUESTS))
    plain = make_core(model, max_model_len=CONTEXT, num_blocks=40)
    plain._grammars = GrammarCompiler(guidance(VOCAB).compile, Immediate())
    expected = answers(plain, requests)
    config = config_of(model, num_blocks=80, block_size=4, num_draft_tokens=3)
    core, launcher = transformer_ahead(
        model, config, CAPTURES[capture], Late(), prophet(requests, expected)
    )
    core._grammars = GrammarCompiler(guidance(VOCAB).compile, Immediate())
    assert answers(core, requests) == expected
    assert launcher.num_verified > 5
    assert core.stats().spec_decode_num_accepted_tokens_total > 5


# What kernels look up and what the model does, with guesses and without: the rest at night.
BY_KERNELS = [("llama", 0), ("llama-tied-mqa", 3), ("gpt2", 0), ("near and far", 3)]


@also_at_night
@pytest.mark.parametrize(
    ("model", "num_draft_tokens"),
    list(product(MODELS, (0, 3))) if is_night() else BY_KERNELS,
    indirect=["model"],
)
def test_by_kernels_they_are_the_same(
    model: Transformer, monkeypatch: pytest.MonkeyPatch, num_draft_tokens: int
) -> None:
    """What a GPU's steps begin and end with, in triton's interpreter: tokens, logprobs and ends of
    greedy and drawn rows, with all that is done to logits."""
    pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")
    plain = make_core(model, max_model_len=CONTEXT, num_blocks=40)
    plain._grammars = GrammarCompiler(guidance(VOCAB).compile, Immediate())
    requests = [structs.replace(r, sampling=shorter(r.sampling)) for r in mix(3, 4)]
    if num_draft_tokens:
        requests = some_to_guess(requests)
    expected = answers(plain, requests)
    for module in ("decode_step", "device_sampler"):
        name = f"thirdeye.server.engine.run_ahead.{module}.can_fuse"
        monkeypatch.setattr(name, lambda device: True)
    num_blocks = 50 if num_draft_tokens else 18  # guesses take what nobody else may need
    config = config_of(
        model,
        num_blocks=num_blocks,
        block_size=4,
        max_num_seqs=3,
        num_draft_tokens=num_draft_tokens,
    )
    core, launcher = transformer_ahead(
        model, config, rerun, CpuStream(), prophet(requests, expected)
    )
    core._grammars = GrammarCompiler(guidance(VOCAB).compile, Immediate())
    assert answers(core, requests) == expected
    assert (launcher.num_verified > 0) == (num_draft_tokens > 0)
    assert launcher.num_decodes + launcher.num_verified > 5


def test_what_kernels_look_up_for_a_model() -> None:
    """Where its stream begins with the tokens' vectors as they are, and all heads turn alike."""
    assert random_model(LLAMA, FixedShapes()).look_up() is not None
    scaled = change(LLAMA, embedding_scale=2.0)
    for config in (GPT2, NEAR_AND_FAR, scaled):
        assert random_model(config, FixedShapes()).look_up() is None


def shorter(sampling: SamplingParams) -> SamplingParams:
    return structs.replace(sampling, max_tokens=min(6, sampling.max_tokens))


def started(
    model: Transformer, num_rows: int, capture: Capture = rerun
) -> tuple[EngineCore, CountingLauncher]:
    """`num_rows` requests that decode, nothing else."""
    core, launcher = transformer_ahead(model, config_of(model), capture, CpuStream())
    for i in range(num_rows):
        core.add(make_request(str(i), [i + 1, 5], max_tokens=50, ignore_eos=True))
    for _ in range(3):
        core.step()
    return core, launcher


def test_padding_changes_nothing_but_scrap(model: Transformer) -> None:
    """5 rows in a bucket of 7: of all slots, only those of the 5 move; of all blocks, only theirs
    and the scrap block are written."""
    core, launcher = started(model, num_rows=5)
    state = launcher.state
    before = state.table.clone()
    core.step()
    changed = (state.table != before).any(1).nonzero()[:, 0].tolist()
    scrap = state.num_slots
    owned = [state.slot for state in launcher._slots._states.values()]
    assert set(changed) - {scrap} == set(owned)
    assert state.table[scrap, SlotField.POSITION] == 0, "the scrap slot has moved"
    assert (state.table[scrap, SlotField.BLOCKS :] == config_of(model).num_blocks).all()


def test_a_steady_state_is_told_nothing(model: Transformer) -> None:
    """Between new blocks the host sends no word, and a new block is one word for each row, and
    group of layers."""
    core, launcher = started(model, num_rows=4)
    told: list[int] = []
    pop_update = launcher._slots.pop_update

    def counted(pin: bool) -> StateUpdate:
        update = pop_update(pin)
        told.append(0 if update.words is None else update.words.shape[1])
        assert update.texts is None
        return update

    launcher._slots.pop_update = counted  # type: ignore[method-assign]  # a spy
    for _ in range(32):
        core.step()
    assert sorted(told) == [0] * 30 + [4 * core._scheduler._blocks.num_groups] * 2


def test_the_tape_refuses_what_a_graph_cannot() -> None:
    """A test of the test: reading a value while the step is recorded."""
    ones = torch.ones(3)
    for read in (lambda: ones.sum().item(), lambda: ones.nonzero(), lambda: bool(ones[0])):
        with pytest.raises(AssertionError, match="must not call"), Tape():
            read()


def test_the_tape_bakes_in_what_was_read_behind_its_back() -> None:
    """A test of the test: the replay uses the old number, which the comparisons above would see."""
    source, target = torch.tensor([1]), torch.zeros(1, dtype=torch.int64)

    def step() -> None:
        target.copy_(torch.full((1,), source.tolist()[0]))

    replay = capture_on_tape(step)
    source.fill_(2)
    replay()
    assert target.item() == 1


def test_buckets() -> None:
    """Every number of rows has one, none is far too large, and the largest is the limit."""
    for most in (1, 2, 3, 5, 8, 13, 64, 100, 256, 300):
        buckets = make_buckets(most)
        assert buckets == sorted(set(buckets))
        assert buckets[-1] == most
        gaps = [b - a for a, b in zip([0, *buckets], buckets, strict=False)]
        assert max(gaps) <= 16
    assert make_buckets(40) == [1, 2, 4, 8, 16, 24, 32, 40]

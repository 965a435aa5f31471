"""Random runs of real transformers a step ahead, with guesses of every kind, against the plain
loop: what a client sees is the same, bit for bit, whoever else comes, leaves or is preempted."""

import random
from functools import cache
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.engine.execution.request_mixes import Answer, answer, answers, make_core
from tests.engine.grammar.toy_grammars import ImmediateExecutor as Immediate
from tests.engine.grammar.toy_grammars import guidance
from tests.engine.run_ahead.engines import FixedShapes, Late, transformer_ahead
from tests.engine.run_ahead.launched_drafts import launched_draft
from tests.engine.run_ahead.test_decode_step import (
    CAPTURES,
    CONTEXT,
    MODELS,
    VOCAB,
    config_of,
    mix,
    prophet,
    some_to_guess,
)
from tests.model.tiny import CPU, LLAMA, random_model
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.each_text import EachText
from thirdeye.server.engine.drafting.first_of import FirstOf
from thirdeye.server.engine.drafting.prompt_lookup import PromptLookup
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import FinishReason, Request, StepOutput
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture
from thirdeye.server.engine.run_ahead.cuda_stream import CpuStream, DeviceStream
from thirdeye.server.engine.run_ahead.guessing.draft_rounds import DraftRounds
from thirdeye.server.engine.scheduling.speculation.proposer import Proposer

GUESSERS = ("text", "prophet", "same model", "other model")
MOST_STEPS = 3000


@cache
def transformer(name: str, seed: int = 0) -> Transformer:
    torch.set_num_threads(1)
    return random_model(MODELS[name], FixedShapes(), seed)


def make_proposer(
    guesser: str,
    requests: list[Request],
    expected: dict[str, Answer],
    config: EngineConfig,
    capture: Capture,
    stream: DeviceStream,
) -> tuple[Proposer, DraftRounds | None]:
    """Texts themselves; who knows the answers and errs; models, of which the same one guesses what
    is greedy rightly."""
    if guesser == "text":
        return EachText(PromptLookup), None
    if guesser == "prophet":
        return prophet(requests, expected), None
    model = transformer("llama", int(guesser == "other model"))
    own = EngineConfig(
        max_model_len=CONTEXT,
        num_blocks=40,
        block_size=config.block_size,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
    )
    kept = KVCache(LLAMA, own.num_blocks + 1, own.block_size, torch.float32, CPU)
    draft, rounds = launched_draft(
        lambda batch: model.logits_as_computed(batch, kept),
        own,
        VOCAB,
        stream,
        ModelRunner(model, kept, own, CPU),
        capture,
    )
    return FirstOf(EachText(PromptLookup), draft), rounds


def run(
    core: EngineCore, requests: list[Request], chance: random.Random
) -> dict[str, list[StepOutput]]:
    """Requests come when they like, and some are aborted in the midst of what is in flight."""
    waiting, said = list(requests), dict[str, list[StepOutput]]()
    doomed = {r.request_id for r in requests if chance.random() < 0.25}
    for _ in range(MOST_STEPS):
        while waiting and chance.random() < 0.4:
            core.add(waiting.pop(0))
        for output in core.step() if core.has_work else ():
            said.setdefault(output.request_id, []).append(output)
            if output.request_id in doomed and chance.random() < 0.2:
                core.abort(output.request_id)
                doomed.remove(output.request_id)
        core._scheduler.check_integrity()
        if not waiting and not core.has_work:
            return said
    raise AssertionError("it does not end")


@draws(push=2, full=400)
@given(
    name=st.sampled_from(sorted(MODELS)),
    guesser=st.sampled_from(GUESSERS),
    capture=st.sampled_from(sorted(CAPTURES)),
    is_late=st.booleans(),
    seed=st.integers(0, 2**32),
    sizes=st.fixed_dictionaries(
        {
            "num_blocks": st.integers(17, 60),
            "max_num_seqs": st.integers(1, 6),
            "num_draft_tokens": st.sampled_from([1, 3, 8]),
            "max_tokens_with_drafts": st.sampled_from([6, 16, 30]),
            "enable_prefix_caching": st.booleans(),
        }
    ),
)
def test_every_answer_is_the_plain_loops(
    name: str, guesser: str, capture: str, is_late: bool, seed: int, sizes: dict[str, Any]
) -> None:
    chance = random.Random(seed)
    model = transformer(name)
    requests = some_to_guess(mix(seed, chance.randint(1, 5)))
    plain = make_core(model, max_model_len=CONTEXT, num_blocks=40)
    plain._grammars = GrammarCompiler(guidance(VOCAB).compile, Immediate())
    expected = answers(plain, requests)
    config = config_of(model, block_size=4, **sizes)
    stream = Late() if is_late else CpuStream()
    proposer, rounds = make_proposer(guesser, requests, expected, config, CAPTURES[capture], stream)
    core, launcher = transformer_ahead(model, config, CAPTURES[capture], stream, proposer, rounds)
    core._grammars = GrammarCompiler(guidance(VOCAB).compile, Immediate())
    said = run(core, requests, chance)
    assert said.keys() == expected.keys()
    for request_id, outputs in said.items():
        of_one, whole = answer(outputs), expected[request_id]
        if outputs[-1].finish_reason is FinishReason.ABORT:
            assert of_one[0] == whole[0][: len(of_one[0])]  # type: ignore[index,arg-type]  # tokens
            assert of_one[1] == whole[1][: len(of_one[1])]  # type: ignore[index,arg-type]
        else:
            assert of_one == whole
    assert core.stats().num_blocks_used == 0
    launcher._slots.check_integrity()

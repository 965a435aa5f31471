"""Answers that think first, over the toy model: what each token may be, from the definition alone.

The oracle reads the whole answer anew for each token, and asks a grammar that was never rolled
back.
"""

import codecs

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.grammar.toy_grammars import (
    TOKENS,
    ImmediateExecutor,
    encode,
    guidance,
)
from tests.engine.scheduling.speculation.test_speculation import Prophet
from tests.engine.toy import (
    EOS,
    VOCAB,
    ToyCache,
    ToyModel,
    make_request,
    run_all,
    tokens_of,
    toy_config,
    toy_logits,
)
from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.each_text import EachText
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.bitmask import empty_masks, unpack
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.interface.grammar_protocol import GrammarError, Matcher
from thirdeye.server.engine.interface.types import Request, Thinking
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.text.constraints import constraint as grammar

GRAMMARS = {
    "none": "",
    "regex": grammar.regex(r"(ab|a|00)+\.?"),
    "choice": grammar.choice(["ab", "aba", "true", "00"]),
}
OPEN, CLOSE = encode("{["), encode("]}")  # two tokens each
THINKING = {
    "opened by the prompt": Thinking(close_ids=CLOSE),
    "opened by the answer": Thinking(open_ids=OPEN, close_ids=CLOSE),
    "budget": Thinking(open_ids=OPEN, close_ids=CLOSE, max_tokens=5),
    "no thinking at all": Thinking(close_ids=CLOSE, max_tokens=0),
    "one token": Thinking(close_ids=CLOSE[:1], max_tokens=4, min_tokens=3),
    "minimum": Thinking(open_ids=OPEN, close_ids=CLOSE, min_tokens=4),
    "a call": Thinking(open_ids=OPEN, close_ids=CLOSE, max_tokens=9, call_id=encode("a")[0]),
}
ALL = set(range(VOCAB))
COMPILER = guidance()


def inner_choices(serialized: str, token_ids: list[int]) -> set[int]:
    if not serialized:
        return ALL
    matcher = COMPILER.compile(serialized)
    try:
        matcher.follow(token_ids)
        return set() if matcher.is_over else choices(matcher)
    except GrammarError:
        return set()


def choices(matcher: Matcher) -> set[int]:
    masks = empty_masks(1, VOCAB)
    matcher.fill(masks[0])
    return set(np.flatnonzero(~unpack(masks, VOCAB)[0].numpy()).tolist())


def said(token_ids: list[int]) -> bytes:
    return b"".join(TOKENS[i] for i in token_ids)


def whole(token_ids: list[int]) -> bool:
    """Whether no character waits for more bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(said(token_ids))
    return decoder.getstate()[0] == b""


def spent_after(inside: list[int], limit: int) -> int:
    """Tokens of thinking that a budget lets through: a character may be completed."""
    return next(n for n in range(limit, limit + 4) if n == limit + 3 or whole(inside[:n]))


def thought(token_ids: list[int], thinking: Thinking) -> int | None:
    """How many tokens the thinking took; None if it has not ended, or may not have begun."""
    num_open = len(thinking.open_ids)
    if token_ids[:num_open] != thinking.open_ids:
        return None if token_ids == thinking.open_ids[: len(token_ids)] else 0
    close = said(thinking.close_ids)
    ends = [n for n in range(num_open, len(token_ids) + 1) if close in said(token_ids[num_open:n])]
    inside = token_ids[num_open:]
    if thinking.max_tokens is not None:
        inside = inside[: spent_after(inside, thinking.max_tokens)]
    if thinking.call_id in inside:
        ends.append(num_open + inside.index(thinking.call_id))
    return min(ends, default=None)


def expected(token_ids: list[int], thinking: Thinking, serialized: str) -> set[int]:
    num_thought, num_open = thought(token_ids, thinking), len(thinking.open_ids)
    is_held = bool(serialized) or thinking.min_tokens > 0
    if num_thought is None and len(token_ids) >= num_open:
        inside = token_ids[num_open:]
        limit = thinking.max_tokens
        if limit is not None and len(inside) >= limit:
            spent = spent_after(inside, limit)
            if len(inside) >= spent:
                return {thinking.close_ids[len(inside) - spent]}
        close = said(thinking.close_ids)
        overrun = {
            i for i in ALL if (said(inside) + TOKENS[i]).partition(close)[2].strip() and serialized
        }
        return ALL - overrun - ({EOS} if is_held else set())
    answer = token_ids[num_thought or 0 :]
    found = inner_choices(serialized, answer)
    if len(answer) < thinking.min_tokens:
        found = found - {EOS} or found
    return found | ({thinking.open_ids[len(token_ids)]} if num_thought is None else set())


def matcher_of(thinking: Thinking, serialized: str) -> Matcher:
    request = msgspec.structs.replace(make_request("r"), grammar=serialized, thinking=thinking)
    inner = COMPILER.compile(serialized) if serialized else None
    return COMPILER.vocabulary.matcher(request, inner)


@pytest.mark.parametrize("serialized", GRAMMARS.values(), ids=GRAMMARS)
@pytest.mark.parametrize("thinking", THINKING.values(), ids=THINKING)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_walk_has_the_choices_of_the_definition(
    thinking: Thinking, serialized: str, data: st.DataObject
) -> None:
    """Forwards, back to any place, and on."""
    matcher, token_ids = matcher_of(thinking, serialized), list[int]()
    for _ in range(data.draw(st.integers(1, 25))):
        if token_ids and data.draw(st.integers(0, 5)) == 0:
            del token_ids[data.draw(st.integers(0, len(token_ids))) :]
        matcher.follow(token_ids)
        wanted = expected(token_ids, thinking, serialized)
        if matcher.is_over or wanted <= {EOS}:
            assert wanted <= {EOS}
            return
        assert choices(matcher) == wanted
        likely = [i for i in (*OPEN, *CLOSE, *encode("ab00")) if i in wanted] or sorted(wanted)
        token = data.draw(st.sampled_from(likely) | st.sampled_from(sorted(wanted)))
        if token == EOS:
            return
        token_ids.append(token)


def requests() -> list[Request]:
    return [
        msgspec.structs.replace(
            make_request(f"{name} {kind} {p}", (5 + p, 6, 7), max_tokens=24),
            thinking=thinking,
            grammar=serialized,
        )
        for name, thinking in THINKING.items()
        for kind, serialized in GRAMMARS.items()
        for p in range(2)
    ]


def reference(request: Request) -> list[int]:
    """Greedy, each token from the whole text so far."""
    assert request.thinking is not None
    token_ids: list[int] = []
    while len(token_ids) < request.sampling.max_tokens and EOS not in token_ids:
        found = expected(token_ids, request.thinking, request.grammar)
        if not found:
            break
        logits = toy_logits([*request.prompt_token_ids, *token_ids])
        token_ids.append(max(sorted(found), key=lambda i: float(logits[i])))
        if not expected(token_ids, request.thinking, request.grammar):
            break
    return token_ids


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_the_engines_answers_are_the_references_with_drafts_and_without(wrong: float) -> None:
    expected_ids = {r.request_id: reference(r) for r in requests()}
    texts = [[*r.prompt_token_ids, *expected_ids[r.request_id]] for r in requests()]
    for num_drafts in (0, 4):
        config = toy_config(num_draft_tokens=num_drafts, max_tokens_with_drafts=64)
        pool = BlockPool(config.num_blocks, config.block_size)
        cache = ToyCache(config.num_blocks, config.block_size)
        core = EngineCore(
            config,
            ModelRunner(ToyModel(), cache, config, "cpu"),
            Scheduler(config, pool, proposer=EachText(lambda: Prophet(texts, wrong))),
            grammars=GrammarCompiler(
                COMPILER.compile, ImmediateExecutor(), think=COMPILER.vocabulary.matcher
            ),
        )
        found = {name: tokens_of(outputs) for name, outputs in run_all(core, requests()).items()}
        assert found == expected_ids
    assert any(b"]}" in said(ids) for ids in expected_ids.values())

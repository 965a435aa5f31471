"""Constrained answers of the whole engine over the toy model, whose tokens say something.

Two oracles. The mask: a token may come next if and only if a parser over single bytes takes the
text with it. The answer: each token is the likeliest that the mask allows, found from scratch.
"""

import json
import re
from functools import cache

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from tests.draws import draws
from tests.engine.grammar.toy_grammars import (
    SPECIAL,
    TOKENS,
    ImmediateExecutor,
    encode,
    grammar_core,
    guidance,
    text_of,
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
    toy_core,
    toy_logits,
)
from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.each_text import EachText
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.bitmask import RowMasks, apply_masks, empty_masks, unpack
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.grammar.llguidance_matcher import (
    MAX_TEMPLATE_BYTES,
    MAX_TEMPLATES,
    LLGuidanceMatcher,
)
from thirdeye.server.engine.interface.grammar_protocol import (
    CompileGrammar,
    GrammarError,
    count_equal,
)
from thirdeye.server.engine.interface.types import ErrorCode, FinishReason, Request, StepOutput
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.text.constraints import constraint as grammar

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "boolean"}, "b": {"enum": [0, 10, None, "ab"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
GRAMMARS = {
    "schema": grammar.json_schema(SCHEMA),
    "object": grammar.json_object(),
    "regex": grammar.regex(r"(ab|a|00)+\.?"),
    "bytes": grammar.regex("(é|a)*0"),
    "choice": grammar.choice(["ab", "aba", "true", "00"]),
    "lark": grammar.lark('start: "[" start "]" | "a" | "b"'),
    "blank": grammar.regex(""),
}
BYTES = LLTokenizer("byte")
SAID = encode('{"a": true, "b"ab0.[]')


def text_bytes(token_ids: list[int]) -> bytes:
    return b"".join(TOKENS[i] for i in token_ids)


def brute_force(serialized: str, token_ids: list[int]) -> set[int]:
    """Every token after which a parser over single bytes can still go on, and the end."""
    here = LLMatcher(BYTES, serialized, log_level=0)
    here.consume_tokens(list(text_bytes(token_ids)))
    found = {EOS} if here.is_accepting() else set()
    for token_id, token in enumerate(TOKENS):
        is_text = token_id > SPECIAL and token
        if is_text and here.deep_copy().try_consume_tokens(list(token)) == len(token):
            found.add(token_id)
    return found


def allowed(matcher: LLGuidanceMatcher) -> set[int]:
    return set((~unpack(mask_of(matcher)[None], VOCAB)[0]).nonzero()[:, 0].tolist())


def mask_of(matcher: LLGuidanceMatcher) -> NDArray[np.int32]:
    (mask,) = empty_masks(1, VOCAB)
    matcher.fill(mask)
    return mask


def is_one_text(candidates: set[int]) -> bool:
    """Whether all that may follow begins the same way: then the tokenizer's own cut is taken."""
    texts = [TOKENS[i] for i in candidates]
    longest = max(texts, key=len)
    return EOS not in candidates and all(longest.startswith(text) for text in texts)


@pytest.mark.parametrize("name", GRAMMARS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_mask_is_what_brute_force_finds(name: str, seed: int) -> None:
    """Along a random answer, at every token; tokens that are half a character among them."""
    chance = np.random.default_rng(seed)
    matcher = guidance().compile(GRAMMARS[name])
    token_ids: list[int] = []
    while len(token_ids) < 12:
        matcher.follow(token_ids)
        if matcher.is_over:
            assert brute_force(GRAMMARS[name], token_ids) == {EOS}
            break
        expected, found = brute_force(GRAMMARS[name], token_ids), allowed(matcher)
        if is_one_text(expected):
            assert found <= expected
            assert found
        else:
            assert found == expected
        token_ids.append(int(chance.choice(sorted(found))))
        if token_ids[-1] == EOS:
            break


@draws(15, 60)
@given(data=st.data())
def test_a_place_is_a_function_of_the_tokens(data: st.DataObject) -> None:
    """Wherever a matcher was before: on, back, aside, to what the grammar refuses, and again."""
    serialized = GRAMMARS[data.draw(st.sampled_from(sorted(GRAMMARS)))]
    wanderer = guidance().compile(serialized)
    for _ in range(data.draw(st.integers(1, 6))):
        token_ids = data.draw(st.lists(st.sampled_from(SAID), max_size=6))
        fresh = guidance().compile(serialized)
        outcomes = []
        for matcher in (wanderer, fresh):
            try:
                matcher.follow(token_ids)
                outcomes.append((matcher.is_over, matcher.is_over or mask_of(matcher).tolist()))
            except GrammarError as error:
                outcomes.append((False, str(error)))
        assert outcomes[0] == outcomes[1]


@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), max_size=6))
def test_count_equal(left: list[int], right: list[int]) -> None:
    slow = 0
    while slow < min(len(left), len(right)) and left[slow] == right[slow]:
        slow += 1
    assert count_equal(left, right) == slow


def test_compiled_grammars_are_remembered_and_forgotten() -> None:
    """A cache keyed by what users send has to be bounded, and one use must not change another."""
    compiler = guidance()
    first = compiler.compile(GRAMMARS["choice"])
    first.follow(encode("ab"))
    second = compiler.compile(GRAMMARS["choice"])
    second.follow([])
    assert allowed(second) == brute_force(GRAMMARS["choice"], [])
    for i in range(2 * MAX_TEMPLATES):
        compiler.compile(grammar.choice(["a" * (i + 1)]))
    assert len(compiler._templates) == MAX_TEMPLATES
    assert allowed(first) == brute_force(GRAMMARS["choice"], encode("ab"))


def test_the_texts_that_are_remembered_are_bounded_together() -> None:
    compiler = guidance()
    for letter in "abcdefgh":
        words = [f"{i:02}" + letter * (MAX_TEMPLATE_BYTES // 5 // 50) for i in range(50)]
        compiler.compile(grammar.choice(words))
        assert compiler._templates.num_bytes <= MAX_TEMPLATE_BYTES
    assert 2 <= len(compiler._templates) < 8


def test_what_cannot_be_followed_at_all_is_refused_beside_the_steps_and_forgotten() -> None:
    """It would have been asked for its first tokens inside a step, for seconds, and been kept."""
    compiler = guidance()
    broken = '{"grammars": [{"lark_grammar": "start: nobody"}]}'
    with pytest.raises(GrammarError):
        compiler.compile(broken)
    assert len(compiler._templates) == 0
    with pytest.raises(GrammarError, match="too complex"):
        compiler.compile(grammar.choice(["a letter that no token has"]))
    assert len(compiler._templates) == 0


def test_the_grammar_used_longest_ago_is_forgotten_first() -> None:
    """One that every request asks for stays compiled, however early it came."""
    compiler = guidance()
    often, once, *others = [grammar.choice(["a" * i]) for i in range(1, MAX_TEMPLATES + 2)]
    for serialized in (often, once, *others[:-1], often, others[-1]):
        compiler.compile(serialized)
    assert compiler._templates.get("", often) is not None
    assert compiler._templates.get("", once) is None


# --- in the engine ---


def constrained(serialized: str, request_id: str = "r", **fields: object) -> Request:
    request = make_request(request_id, **({"max_tokens": 40} | fields))  # type: ignore[arg-type]  # plain test parameters
    return msgspec.structs.replace(request, grammar=serialized)


def reference(request: Request) -> tuple[list[int], FinishReason]:
    """No cache, no batch, no draft, no walk: each token from the whole text so far. Greedy."""
    token_ids: list[int] = []
    while len(token_ids) < request.sampling.max_tokens:
        matcher = guidance().compile(request.grammar)
        matcher.follow(token_ids)
        logits = toy_logits([*request.prompt_token_ids, *token_ids])
        choices = allowed(matcher)
        token_ids.append(max(choices, key=lambda i: float(logits[i])))
        matcher.follow(token_ids)
        if token_ids[-1] == EOS or matcher.is_over:
            return token_ids, FinishReason.STOP
    return token_ids, FinishReason.LENGTH


def all_requests() -> list[Request]:
    return [
        constrained(serialized, f"{name} {p}", prompt=(5 + p, 6, 7))
        for name, serialized in GRAMMARS.items()
        for p in range(3)
    ] + [make_request("free", max_tokens=40)]


def ends(outputs: dict[str, list[StepOutput]]) -> dict[str, tuple[list[int], FinishReason | None]]:
    return {name: (tokens_of(o), o[-1].finish_reason) for name, o in outputs.items()}


@cache
def expected_ends() -> dict[str, tuple[list[int], FinishReason | None]]:
    return {r.request_id: reference(r) for r in all_requests() if r.grammar}


def test_each_answer_is_the_references() -> None:
    """Together in a batch, alone, in chunks, and preempted again and again."""
    expected = expected_ends()
    assert {reason for _, reason in expected.values()} == {FinishReason.STOP, FinishReason.LENGTH}
    free = run_all(toy_core(), [all_requests()[-1]])
    for sizes in ({}, {"max_num_seqs": 1}, {"max_num_batched_tokens": 16}, TIGHT):
        core = grammar_core(toy_config(**sizes))
        found = ends(run_all(core, all_requests()))
        assert found == expected | ends(free)
        assert (core.stats().preemptions_total > 0) == (sizes is TIGHT)


TIGHT = {"num_blocks": 16, "max_model_len": 64}


def speculating_core(
    texts: list[list[int]],
    wrong: float,
    compile_grammar: CompileGrammar | None = None,
    **sizes: object,
) -> EngineCore:
    config = toy_config(num_draft_tokens=4, max_tokens_with_drafts=64, **sizes)
    pool = BlockPool(config.num_blocks, config.block_size)
    cache = ToyCache(config.num_blocks, config.block_size)
    runner = ModelRunner(ToyModel(), cache, config, "cpu")
    scheduler = Scheduler(config, pool, proposer=EachText(lambda: Prophet(texts, wrong)))
    grammars = GrammarCompiler(compile_grammar or guidance().compile, ImmediateExecutor())
    return EngineCore(config, runner, scheduler, grammars=grammars)


@pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sizes", [{}, TIGHT], ids=["roomy", "tight"])
def test_drafts_change_no_constrained_answer(wrong: float, sizes: dict[str, object]) -> None:
    """Right drafts, drafts that the grammar refuses, drafts behind the end of the grammar."""
    expected = expected_ends()
    requests = [r for r in all_requests() if r.grammar]
    texts = [[*r.prompt_token_ids, *expected[r.request_id][0]] for r in requests]
    core = speculating_core(texts, wrong, **sizes)
    assert ends(run_all(core, requests)) == expected
    stats = core.stats()
    assert stats.spec_decode_num_draft_tokens_total > 50
    assert (stats.spec_decode_num_accepted_tokens_total > 50) == (wrong < 1)


def test_drawn_answers_keep_to_the_grammar() -> None:
    """Each sample of a request has a place of its own in the same grammar."""
    requests = [
        constrained(GRAMMARS[name], f"{name} {seed}", temperature=1.0, seed=seed)
        for name in ("schema", "choice", "regex")
        for seed in range(12)
    ]
    texts: dict[str, set[str]] = {}
    for name, outputs in run_all(grammar_core(), requests).items():
        kind = name.split()[0]
        if outputs[-1].finish_reason is FinishReason.STOP:
            texts.setdefault(kind, set()).add(text_of(tokens_of(outputs)))
    assert all(len(found) > 2 for found in texts.values())
    assert texts["choice"] <= {"ab", "aba", "true", "00"}
    assert all(re.fullmatch(r"(ab|a|00)+\.?", text) for text in texts["regex"])
    assert all(json.loads(text).keys() == {"a", "b"} for text in texts["schema"])


def test_an_answer_ends_where_its_grammar_must() -> None:
    """No end-of-sequence has to be sampled: behind the last token nothing could follow. That it
    is the last token allowed changes nothing: the answer is whole."""
    serialized = grammar.lark('start: "[" "a" "]"')
    for max_tokens in (3, 10):
        outputs = run_all(grammar_core(), [constrained(serialized, max_tokens=max_tokens)])["r"]
        assert text_of(tokens_of(outputs)) == "[a]"
        assert EOS not in tokens_of(outputs)
        assert outputs[-1].finish_reason is FinishReason.STOP
    outputs = run_all(grammar_core(), [constrained(serialized, max_tokens=2)])["r"]
    assert outputs[-1].finish_reason is FinishReason.LENGTH


def test_end_of_sequence_comes_only_where_the_grammar_may_end() -> None:
    """However much a request likes it."""
    request = constrained(grammar.regex("(ab){2,}"), logit_bias={EOS: 100.0})
    outputs = run_all(grammar_core(), [request])["r"]
    assert text_of(tokens_of(outputs)) == "abab"
    assert tokens_of(outputs)[-1] == EOS


@pytest.mark.parametrize(
    ("serialized", "text"),
    [
        (grammar.regex("(ab)*"), "ababab"),
        (grammar.regex("(ab){2}"), "abab"),
        (grammar.regex(""), ""),
    ],
)
def test_min_tokens_holds_the_end_back_but_not_the_grammar(serialized: str, text: str) -> None:
    request = constrained(serialized, min_tokens=3, logit_bias={EOS: 100.0})
    outputs = run_all(grammar_core(), [request])["r"]
    found = text_of(tokens_of(outputs))
    assert found.startswith(text) if text == "ababab" else found == text
    assert outputs[-1].finish_reason is FinishReason.STOP


def test_min_tokens_masks_no_stop_token_that_the_grammar_needs() -> None:
    """Else nothing would be left to choose from, and what is chosen then is noise."""
    (needed,) = encode("b")
    request = constrained(grammar.regex("b0"), min_tokens=3, stop_token_ids=[needed])
    outputs = run_all(grammar_core(), [request])["r"]
    assert text_of(tokens_of(outputs)) == "b0"
    assert outputs[-1].finish_reason is FinishReason.STOP


def test_reported_logprobs_know_nothing_of_the_grammar() -> None:
    """They are of the raw logits: the model's opinion, not the mask's."""
    request = constrained(GRAMMARS["choice"], logprobs=3)
    outputs = run_all(grammar_core(), [request])["r"]
    token_ids = list(request.prompt_token_ids)
    for output in outputs:
        for entry in output.logprobs or []:
            raw = toy_logits(token_ids).log_softmax(-1)
            assert entry.logprob == pytest.approx(float(raw[entry.token_id]), abs=1e-5)
            assert [i for i, _ in entry.top] == raw.topk(3).indices.tolist()
            token_ids.append(entry.token_id)


def test_what_cannot_be_followed_is_that_requests_error_alone() -> None:
    broken = {
        "no grammar": constrained("{", "no grammar"),
        "impossible": constrained(grammar.regex("c"), "impossible"),
    }
    good = constrained(GRAMMARS["choice"], "good")
    outputs = run_all(grammar_core(), [*broken.values(), good])
    assert ends({"good": outputs["good"]}) == {"good": reference(good)}
    for name in broken:
        assert outputs[name][-1].finish_reason is FinishReason.ERROR
        assert outputs[name][-1].error_code is ErrorCode.INVALID_GRAMMAR
        assert "grammar of this request" in (outputs[name][-1].error or "")


def test_an_engine_without_a_vocabulary_refuses_grammars() -> None:
    """It must not answer as if nothing had been asked."""
    outputs = run_all(toy_core(), [constrained(GRAMMARS["choice"])])["r"]
    assert outputs[-1].finish_reason is FinishReason.ERROR


def test_a_model_without_an_end_of_its_own_stops_where_the_grammar_must() -> None:
    from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler

    endless = LLGuidanceCompiler(
        TOKENS, special_token_ids=[EOS, SPECIAL], eos_token_ids=[], encode=encode
    )
    config = toy_config(eos_token_ids=[])
    cache = ToyCache(config.num_blocks, config.block_size)
    runner = ModelRunner(ToyModel(), cache, config, "cpu")
    core = EngineCore(
        config, runner, grammars=GrammarCompiler(endless.compile, ImmediateExecutor())
    )
    outputs = run_all(core, [constrained(GRAMMARS["lark"], max_tokens=60)])["r"]
    found = text_of(tokens_of(outputs))
    assert re.fullmatch(r"\[*[ab]\]*", found)
    assert found.count("[") == found.count("]") or len(found) >= 60


def test_unpack_reads_the_lowest_bit_first() -> None:
    masks = np.array([[0b101, 0b10], [0, -1]], np.int32)
    first, second = unpack(masks, 40).tolist()
    assert first == [i not in (0, 2, 33) for i in range(40)]
    assert second == [i < 32 for i in range(40)]
    assert unpack(masks, 5).dtype is torch.bool


@pytest.mark.parametrize("vocab_size", [10, 32, VOCAB, 64, 65, 500])
def test_a_mask_has_the_size_that_is_wanted(vocab_size: int) -> None:
    """Models pad their heads to round sizes: no grammar allows what is no token. And a tokenizer
    may know tokens that the model has no logits for: no neighbour's row is written to."""
    matcher = guidance().compile(GRAMMARS["choice"])
    expected = {i for i in allowed(matcher) if i < vocab_size}
    masks = empty_masks(3, vocab_size)
    masks.fill(-1)
    matcher.fill(masks[1])
    forbidden = unpack(masks, vocab_size)
    assert set((~forbidden[1]).nonzero()[:, 0].tolist()) == expected
    assert not forbidden[0].any()
    assert not forbidden[2].any()


@pytest.mark.parametrize("masked", [(), (1,), (0, 3), (2, 0, 3, 1)])
def test_all_masks_of_a_step_are_one_operation(masked: tuple[int, ...]) -> None:
    """Each masked row loses what its own mask forbids, and no other row changes."""
    logits = torch.arange(40.0).reshape(4, 10)
    words = np.array([[0b11 << row] for row in sorted(masked)], np.int32).reshape(-1, 1)
    expected = logits.clone()
    for row in masked:
        expected[row, [i for i in range(10) if i not in (row, row + 1)]] = -torch.inf
    apply_masks(logits, RowMasks(sorted(masked), words))
    assert torch.equal(logits, expected)

"""A caller's grammar in its process says what it says here, and ends where it takes too long."""

import asyncio
import gc
import json
import os
import random
import select
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.engine.grammar.toy_grammars import TOKENS, ImmediateExecutor, guidance, text_of
from tests.engine.toy import (
    ToyCache,
    ToyModel,
    collect,
    drain,
    make_request,
    tokens_of,
    toy_config,
    toy_info,
)
from thirdeye.server.engine.core.engine_core import GRAMMAR_FAILED, EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler
from thirdeye.server.engine.grammar.processes.process_matcher import MatcherProcesses
from thirdeye.server.engine.interface.grammar_limits import is_of_a_caller, marked
from thirdeye.server.engine.interface.grammar_protocol import (
    REFUSED,
    TOO_COMPLEX,
    GrammarError,
    Matcher,
    num_words,
)
from thirdeye.server.engine.interface.types import ErrorCode
from thirdeye.server.engine.process.thread_engine import ThreadEngine
from thirdeye.server.text.constraints import constraint as grammar

LISTS = 'start: v\nv: "[" [v ("," v)*] "]" | /[ab]+/ | "true" | "null"'
FORCED = 'start: "true" "false" /[01]/'
# Each `=` is a rule that ends with the text, so its end costs the square of their number.
RECURSIVE = 'start: s "!"\ns: "=" s | "b" "~" "q"'
NUM_WIDE = 160  # rules that name each other: ten seconds to compile, or more


@pytest.fixture
def processes() -> Iterator[MatcherProcesses]:
    compiler = guidance()
    found = MatcherProcesses(lambda: compiler)
    yield found
    found.close()


def mask_of(matcher: Matcher) -> list[int]:
    mask = np.full(num_words(len(TOKENS) + 1), -1, np.int32)
    matcher.fill(mask)
    return [i for i in range(len(TOKENS)) if mask[i // 32] >> i % 32 & 1]


def follow(matcher: Matcher, token_ids: list[int]) -> None:
    """Go there, and wait until it is there."""
    matcher.follow(token_ids)
    if matcher.late is not None:
        while not matcher.late.is_here():
            select.select([matcher.late.fileno()], [], [])
        matcher.follow(token_ids)  # which says what is wrong


def place(matcher: Matcher, token_ids: list[int]) -> tuple[object, object]:
    """Where it comes to, or what it says of it; and what may follow."""
    try:
        follow(matcher, token_ids)
        return matcher.is_over, None if matcher.is_over else mask_of(matcher)
    except GrammarError as error:
        return str(error), None


@pytest.mark.parametrize("rules", [LISTS, FORCED])
def test_it_says_what_it_says_here(processes: MatcherProcesses, rules: str) -> None:
    """Step by step, back and forth, and where a token is refused."""
    there, here = processes.matcher(grammar.lark(rules)), guidance().compile(grammar.lark(rules))
    drawn = random.Random(1)
    token_ids: list[int] = []
    for _ in range(150):
        assert place(there, token_ids) == place(here, token_ids)
        wrong = [*token_ids, drawn.randrange(2, 20)]
        assert place(there, wrong) == place(here, wrong) == place(there, wrong)
        here.follow(token_ids)
        if here.is_over or len(token_ids) > 20:
            del token_ids[drawn.randrange(len(token_ids)) :]
        else:
            may = [i for i in mask_of(here) if i > 1]
            token_ids = [*token_ids, drawn.choice(may)] if may else []


def wide_tokens() -> LLGuidanceCompiler:
    """A vocabulary in which 64 characters are one token."""
    tokens = [b"<|end|>", *(bytes([c]) for c in b"=b~q!x"), b"=" * 64]

    def encode(text: str) -> list[int]:
        return [tokens.index(character.encode()) for character in text]

    return LLGuidanceCompiler(tokens, special_token_ids=[0], eos_token_ids=[0], encode=encode)


def all_followed(matcher: Matcher, before: list[int], token_ids: list[int]) -> None:
    for n in range(len(token_ids)):
        follow(matcher, [*before, *token_ids[: n + 1]])


def test_what_takes_long_for_one_token_is_ended() -> None:
    """It would be half a second of everybody's step with 1,000 tokens, and half a minute with
    8,000; each token before it takes next to nothing."""
    compiler = wide_tokens()
    processes = MatcherProcesses(lambda: compiler)
    matcher = processes.matcher(grammar.lark(RECURSIVE))
    mask = np.empty(1, np.int32)
    for n in range(1, 8_001):
        follow(matcher, [7] * n)
        matcher.fill(mask)
    with pytest.raises(GrammarError, match=TOO_COMPLEX):
        all_followed(matcher, [7] * 8_000, [2, 3, 4, 5])
    with pytest.raises(GrammarError, match=TOO_COMPLEX):
        follow(matcher, [7])
    again = processes.matcher(grammar.lark(RECURSIVE))
    follow(again, [1, 2, 3, 4, 5])
    assert again.is_over, "the next one is followed as ever"
    processes.close()


def test_what_takes_long_to_compile_is_ended(processes: MatcherProcesses) -> None:
    names = [f"r{i}" for i in range(NUM_WIDE)]
    rules = [f'{name}: {" | ".join(set(names) - {name})} | "{name}"' for name in names]
    text = marked("\n".join(["start: r0", *rules]))
    with pytest.raises(GrammarError, match=TOO_COMPLEX):
        processes.matcher(json.dumps({"grammars": [{"lark_grammar": text}]}))
    assert place(processes.matcher(grammar.lark(FORCED)), [])[0] is False


def num_children(pid: int) -> int:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_so_many_at_once_and_no_more() -> None:
    """The next waits for a place, and each ends with its matcher."""
    compiler = guidance()
    processes = MatcherProcesses(lambda: compiler, max_processes=2)
    held = []
    for tenant in ("one", "other"):
        place = processes.take_place(tenant)
        assert place is not None
        held.append(processes.matcher(grammar.lark(LISTS), place))
        del place
    assert processes.take_place("third") is None
    del held[0]
    gc.collect()
    assert processes.take_place("third") is not None
    processes.close()


def test_no_tenant_takes_all_places() -> None:
    """One in eight is there for whoever has none; of equals nobody is ahead."""
    processes = MatcherProcesses(guidance, max_processes=16)
    held = [processes.take_place("greedy") for _ in range(20)]
    assert sum(place is not None for place in held) == 14
    assert processes.take_place("one") is not None, "and gives it back"
    kept = processes.take_place("one"), processes.take_place("other")
    assert None not in kept
    assert processes.take_place("one") is None
    assert processes.take_place("third") is None
    held.clear()
    assert processes.num_places("greedy") == 0
    assert processes.take_place("third") is not None


def test_who_has_fewer_places_is_next() -> None:
    """Forty of one tenant wait for places; another's first one comes then, and is the next."""
    compiler = guidance()
    processes = MatcherProcesses(lambda: compiler, max_processes=2)
    grammars = GrammarCompiler(compiler.compile, ImmediateExecutor(), callers=processes)
    woken = threading.Semaphore(0)
    grammars.wake = woken.release
    done: list[str] = []

    def take(count: int) -> list[object]:
        """So many more, with what holds their places."""
        found: list[object] = []
        while len(found) < count:
            assert woken.acquire(timeout=20)
            for request_id, matcher in grammars.pop_ready():
                done.append(request_id)
                found.append(matcher)
        return found

    def start(tenant: str, request_id: str) -> None:
        request = make_request(request_id)
        request = msgspec.structs.replace(request, grammar=grammar.lark(LISTS), tenant=tenant)
        grammars.start(request)

    for n in range(40):
        start("greedy", f"greedy-{n}")
    held = take(1)
    start("honest", "honest")
    held += take(1)
    assert done == ["greedy-0", "honest"]
    held.clear()
    assert grammars.has_ready is False
    take(1)
    assert done[2:] == ["greedy-1"]
    for n in range(40):
        grammars.forget(f"greedy-{n}")
    processes.close()


def test_nothing_is_left(processes: MatcherProcesses) -> None:
    held = [processes.matcher(grammar.lark(LISTS)) for _ in range(3)]
    assert processes._source is not None
    pid = processes._source[0].pid
    threads = len(os.listdir(f"/proc/{pid}/task"))
    assert threads == 1, "it forks"
    assert num_children(pid) == 3
    held.clear()
    while num_children(pid):
        pass


def test_a_source_that_somebody_ended_is_not_asked(processes: MatcherProcesses) -> None:
    assert place(processes.matcher(grammar.lark(FORCED)), [])[0] is False
    assert processes._source is not None
    processes._source[0].kill()
    processes._source[0].wait()
    assert place(processes.matcher(grammar.lark(FORCED)), [])[0] is False


def test_requests_beyond_the_places_wait_for_one(caplog: pytest.LogCaptureFixture) -> None:
    """And end all the same, each with its own text; what cannot be followed is its own error, and
    no more than that in the log."""
    compiler = guidance()
    processes = MatcherProcesses(lambda: compiler, max_processes=2)
    texts = ["ab", "ba", "00", "true", "null", "aba"]
    config = toy_config()
    runner = ModelRunner(ToyModel(), ToyCache(config.num_blocks, config.block_size), config, "cpu")
    grammars = GrammarCompiler(compiler.compile, callers=processes)
    core = EngineCore(config, runner, grammars=grammars)
    wrong = json.dumps({"grammars": [{"lark_grammar": marked("start: nowhere")}]})

    async def main() -> None:
        engine = ThreadEngine(core, toy_info(config))
        requests = [
            msgspec.structs.replace(make_request(text), grammar=grammar.lark(f'start: "{text}"'))
            for text in texts
        ]
        requests.insert(2, msgspec.structs.replace(make_request("wrong"), grammar=wrong))
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(collect(engine, request) for request in requests))
        (last,) = found.pop(2)
        assert (last.error, last.error_code) == (GRAMMAR_FAILED, ErrorCode.INVALID_GRAMMAR)
        assert [text_of(tokens_of(outputs)) for outputs in found] == texts
        await engine.close()

    asyncio.run(main())
    assert not caplog.records
    processes.close()


def test_what_fails_gives_its_place_back_at_once() -> None:
    """Who sends grammars that fail would have all places until somebody looks for garbage."""
    compiler = guidance()
    processes = MatcherProcesses(lambda: compiler, max_processes=2)
    grammars = GrammarCompiler(compiler.compile, callers=processes)
    woken = threading.Semaphore(0)
    grammars.wake = woken.release
    wrong = json.dumps({"grammars": [{"lark_grammar": marked("start: nowhere")}]})
    gc.disable()
    try:
        for n in range(4):
            grammars.start(msgspec.structs.replace(make_request(f"wrong-{n}"), grammar=wrong))
        grammars.start(msgspec.structs.replace(make_request("right"), grammar=grammar.lark(FORCED)))
        found: dict[str, Matcher | Exception] = {}
        while len(found) < 5:
            assert woken.acquire(timeout=60)
            assert grammars.has_ready in (True, False)  # which starts those that wait
            found |= dict(grammars.pop_ready())
    finally:
        gc.enable()
    wrong = {name for name, one in found.items() if isinstance(one, GrammarError)}
    assert sorted(found.keys() - wrong) == ["right"]
    processes.close()


def test_nothing_may_follow_what_is_over(processes: MatcherProcesses) -> None:
    """Which is asked where an answer may think first, or be over at once."""
    matcher = processes.matcher(grammar.lark('start: "ab"'))
    follow(matcher, [TOKENS.index(b"ab")])
    assert matcher.is_over
    with pytest.raises(GrammarError, match=REFUSED):
        mask_of(matcher)


def test_a_process_that_does_nothing_is_waited_for_by_nobody(processes: MatcherProcesses) -> None:
    """It is held still while its answer sits out: the others go on to their ends. When it dies,
    its request ends alone."""
    config = toy_config()
    runner = ModelRunner(ToyModel(), ToyCache(config.num_blocks, config.block_size), config, "cpu")
    core = EngineCore(
        config,
        runner,
        grammars=GrammarCompiler(guidance().compile, ImmediateExecutor(), callers=processes),
    )
    request = make_request("held", ignore_eos=True)
    core.add(msgspec.structs.replace(request, grammar=grammar.lark(LISTS)))
    while not core.has_work:
        pass
    assert processes._source is not None
    pid = processes._source[0].pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(child), signal.SIGSTOP)
    core.add(make_request("free", max_tokens=30, ignore_eos=True))
    found = drain(core)
    assert len(tokens_of(found["free"])) == 30
    assert [output.finish_reason for output in found["held"]] == [None], "its first token"
    (awaited,) = core.awaited()
    assert not select.select([awaited], [], [], 0)[0]
    os.kill(int(child), signal.SIGKILL)
    select.select([awaited], [], [])
    (last,) = core.step()
    assert (last.error, last.error_code) == (TOO_COMPLEX, ErrorCode.INVALID_GRAMMAR)
    assert core.stats().num_blocks_used == 0


def test_a_text_is_cut_into_tokens_beside_the_steps() -> None:
    """Each token of a prescribed text takes all that is left of it, in every such answer: some 0.4
    ms for 4,000 characters."""
    compiler, may_go, threads = guidance(), threading.Event(), set[int]()
    encode = compiler.given.encode

    def slow(text: str) -> list[int]:
        threads.add(threading.get_ident())
        assert may_go.wait(20)
        return encode(text)

    compiler.given = replace(compiler.given, encode=slow)
    processes = MatcherProcesses(lambda: compiler)
    may_go.set()
    matcher = processes.matcher(grammar.lark(FORCED))
    threads.clear()
    may_go.clear()
    matcher.follow([TOKENS.index(b"true")])
    select.select([matcher.fileno()], [], [])
    assert not matcher.is_here(), "it needs a text, and nobody waits for it"
    may_go.set()
    follow(matcher, [TOKENS.index(b"true")])
    assert mask_of(matcher) == [TOKENS.index(b"fal")]
    assert threads
    assert threading.get_ident() not in threads
    processes.close()


@pytest.mark.parametrize("rules", [LISTS, FORCED])
def test_what_comes_back_from_outside_is_a_callers(rules: str) -> None:
    """A receipt's grammar says of itself what it likes."""
    serialized = json.dumps({"grammars": [{"lark_grammar": rules}]})
    assert not is_of_a_caller(serialized)
    assert is_of_a_caller(grammar.foreign(serialized))
    assert is_of_a_caller(grammar.lark(rules))
    assert not is_of_a_caller(grammar.json_schema({"type": "string"}))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"token_ids": ' + "[" * 100_000, "1", "{"])
def test_what_is_no_grammar_is_refused(text: str) -> None:
    with pytest.raises(grammar.ConstraintError):
        grammar.foreign(text)

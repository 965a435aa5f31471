"""The decode loop where only a device can fail: streams, graphs, memory, far addresses.

Each check is a function of the device that raises AssertionError. Those that need no GPU run on a
CPU too, where a graph is the same function once more.
"""

import gc
import math
import random
from collections.abc import Callable
from typing import Any

import torch

from tests.engine.grammar.toy_grammars import ImmediateExecutor, guidance
from tests.gpu.attention import attend_by, decode_case
from tests.model.steps import Row, make_batch, to_device
from tests.model.tiny import LLAMA, change
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.server.bench.engine import EngineBench
from thirdeye.server.bench.report import Plan
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.text.constraints import constraint

WISHES: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.8},
    {"temperature": 0.8, "top_p": 0.7},
    {"temperature": 1.0, "top_k": 9, "min_p": 0.01},
    {"temperature": 0.6, "repetition_penalty": 1.2},
    {"temperature": 0.0, "logprobs": 3},
    {"temperature": 0.6, "logit_bias": {7: 2.0}, "min_tokens": 3, "stop_token_ids": [1, 2, 3]},
)
FEW_WORDS = {5: 30.0, 6: 30.0, 7: 30.0}
GRAMMAR = constraint.regex('("ab": (true|null), )*"')
FAR_BLOCKS = 140_000  # of one layer: 2.3e9 numbers, more than 32 bits tell apart
MOST_GRAPH_BYTES = 256 << 20


def bench_of(device: torch.device, graphs: str) -> EngineBench:
    plan = Plan("tiny", [], [], 1, 0, str(device), "float32", "auto", 1e9, graphs)
    return EngineBench(plan)


def answers(bench: EngineBench, most: int) -> dict[str, list[int]]:
    """Requests of every kind, come and gone in waves, some of them aborted, with few blocks; some
    follow a grammar."""
    core = bench.engine(most, 40 * most, 90)
    compiled = guidance(bench.config.vocab_size).compile
    core._grammars = GrammarCompiler(compiled, ImmediateExecutor())
    draw, tokens = random.Random(1), dict[str, list[int]]()
    for number in range(4 * most):
        wish = {"max_tokens": draw.randint(2, 30), "seed": number, "ignore_eos": True}
        core.add(
            Request(
                request_id=str(number),
                prompt_token_ids=bench.prompt(draw, draw.randint(1, 50)),
                sampling=SamplingParams(**wish | WISHES[number % len(WISHES)]),
                grammar=GRAMMAR if number % 6 == 3 else "",
            )
        )
        if number % 5 == 4:
            core.abort(str(number - 1))
        for output in core.step():
            assert not output.error, output.error
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
    while core.has_work:
        for output in core.step():
            assert not output.error, output.error
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
    aborted = {str(number - 1) for number in range(4, 4 * most, 5)}
    return {name: ids for name, ids in tokens.items() if name not in aborted}


def mixes_agree(device: torch.device) -> None:
    """Captured steps, one ahead, against eager ones, while Python collects as often as it can."""
    usual = gc.get_threshold()
    gc.set_threshold(1)
    try:
        ahead = answers(bench_of(device, "on"), 5)
    finally:
        gc.set_threshold(*usual)
    assert ahead == answers(bench_of(device, "off"), 5)


def guesses_agree(device: torch.device) -> None:
    """Texts of a few words, some of which are guessed and verified a step late, in graphs that find
    out which are right; against steps that are read before the next and guess nothing."""
    ahead, accepted = repeated(bench_of(device, "on"), 4)
    plain, none = repeated(bench_of(device, "off"), 0)
    assert ahead == plain
    assert accepted > 20
    assert none == 0


def repeated(bench: EngineBench, num_drafts: int) -> tuple[dict[str, list[int]], int]:
    return repeated_by(bench, bench.engine(3, 300, 100, num_draft_tokens=num_drafts))


def repeated_by(bench: EngineBench, core: EngineCore) -> tuple[dict[str, list[int]], int]:
    """What is said, and how many guesses were right."""
    tokens = dict[str, list[int]]()
    for number in range(6):
        wish: dict[str, Any] = {"temperature": 0.2 * (number % 3), "seed": number}
        wish |= {"logit_bias": FEW_WORDS} if number < 4 else {}  # the others are steps of one graph
        sampling = SamplingParams(max_tokens=40, ignore_eos=True, **wish)
        prompt = bench.prompt(random.Random(number), 9)
        core.add(Request(request_id=str(number), prompt_token_ids=prompt, sampling=sampling))
    while core.has_work:
        for output in core.step():
            assert not output.error, output.error
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
    return tokens, core.stats().spec_decode_num_accepted_tokens_total


def decoding(bench: EngineBench, num_rows: int) -> EngineCore:
    return begun(bench, bench.engine(num_rows, 200 * num_rows, 200), num_rows)


def begun(bench: EngineBench, core: EngineCore, num_rows: int) -> EngineCore:
    for number in range(num_rows):
        sampling = SamplingParams(max_tokens=150, ignore_eos=True, **WISHES[number % 4])
        prompt = bench.prompt(random.Random(number), 9)
        core.add(Request(request_id=str(number), prompt_token_ids=prompt, sampling=sampling))
    for _ in range(5):
        core.step()
    return core


def no_step_waits(device: torch.device) -> None:
    """Steady steps read no value of the device but the tokens, by an event of their own."""
    steps_wait_for_nothing(decoding(bench_of(device, "on"), 5), 20, device)


def steps_wait_for_nothing(core: EngineCore, num_steps: int, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(num_steps):
            core.step()
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def nothing_is_compiled(device: torch.device) -> None:
    """By triton, in steady and mixed steps behind the first few."""
    import triton

    bench = bench_of(device, "on")
    answers(bench, 5)
    compiled: list[str] = []
    before = triton.knobs.runtime.jit_post_compile_hook
    triton.knobs.runtime.jit_post_compile_hook = lambda *_, repr, **__: compiled.append(repr)
    try:
        answers(bench, 5)
    finally:
        triton.knobs.runtime.jit_post_compile_hook = before
    assert compiled == []


def graphs_take_little(device: torch.device) -> None:
    """Their scratch memory is shared, and a library's workspace is there once: of what is in use,
    and of what the allocator has for them."""
    bench = bench_of(device, "on")
    before = memory(device)
    core = bench.engine(64, 64 * 32, 200)
    taken = [after - first for after, first in zip(memory(device), before, strict=True)]
    assert core is not None
    assert max(taken) < MOST_GRAPH_BYTES, taken


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes in use, and those that the allocator has."""
    if device.type != "cuda":
        return 0, 0
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()


def far_blocks(device: torch.device) -> None:
    """Sequences in the last blocks of a cache of more numbers than 32 bits tell apart; on a CPU in
    a small one."""
    num_blocks, heads, kv_heads, dim = FAR_BLOCKS, 16, 8, 128
    if device.type == "cpu":
        num_blocks, heads, kv_heads, dim = 50, 2, 1, 16
    config = change(LLAMA, num_heads=heads, num_kv_heads=kv_heads, head_dim=dim)
    config = change(config, num_hidden_layers=1)
    cache = KVCache(config, num_blocks, 16, torch.bfloat16, device)
    tail = KVCache(config, 40, 16, torch.bfloat16, device)
    for whole, part in zip(cache.layer(0), tail.layer(0), strict=True):
        whole[-40:] = part.normal_()
    backend = TritonAttention(num_multiprocessors=132)
    for past, new in ((200, 1), (100, 33)):
        blocks = list(range(40))
        query = torch.randn(new, heads, dim, device=device, dtype=torch.bfloat16)
        results = []
        for own, shift in ((cache, num_blocks - 40), (tail, 0)):
            row = Row([0] * new, past, [shift + block for block in blocks])
            batch = to_device(make_batch([row], 16), device)
            results.append(backend.forward(query, *own.layer(0), backend.plan(batch, own)))
        assert torch.equal(*results)


def lanes_change_no_bit(device: torch.device) -> None:
    """Of decode attention: one program for a sequence, or as many as there are splits."""
    contexts = (300, 1000, 5000) if device.type == "cuda" else (300,)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    for context in contexts:
        case = decode_case(2, context, 8, 2, 64, dtype, device)
        one, *more = (
            attend_by(TritonAttention(num_multiprocessors=n), case)
            for n in (1, 4, math.ceil(context / 64), 132)
        )
        assert all(torch.equal(one, other) for other in more)


CHECKS: dict[str, Callable[[torch.device], None]] = {
    "mixes of requests by graphs and eager steps agree": mixes_agree,
    "guesses verified a step late agree": guesses_agree,
    "no steady step waits": no_step_waits,
    "nothing is compiled behind the first steps": nothing_is_compiled,
    "graphs take little memory": graphs_take_little,
    "far blocks of a large cache": far_blocks,
    "lanes change no bit": lanes_change_no_bit,
}

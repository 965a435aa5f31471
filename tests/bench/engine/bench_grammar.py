"""What following a grammar adds to the step that serves: 32 sequences, the default model.

    python -m tests.bench.engine.bench_grammar [--rounds N]

First how long another thread is kept from the interpreter while the vocabulary is read, at most,
by the processor time of the thread that reads; and while the first grammars are compiled over one
that is there. Then the parts: a grammar's first mask, then for each token of an answer following it
and filling its mask, by processor time; and choosing the tokens of 32 rows with such masks and
without. Then two engines as a server loads them (native kernels, fp16 keys and values, the heap
settled) take turns, a step of 32 free answers and one of 32 constrained ones, by the clock:
medians, and the median of the differences between neighbours. The last line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from threading import Event, Thread
from typing import Any, TypeVar

import msgspec
import torch

from tests.recipes import make_recipe
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.grammar.bitmask import RowMasks, empty_masks, unpack
from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.engine.process.footprint import keep_step_buffers
from thirdeye.server.engine.sampling.sampler import Sampler, make_draw_params
from thirdeye.server.interpreter_lock import share_often
from thirdeye.server.load.load_engine import (
    choose_sampler,
    load_engine,
    load_guidance,
    load_tokenizer,
)
from thirdeye.server.load.native_kernels import plan_native
from thirdeye.server.load.placement import load_native
from thirdeye.server.text.constraints import constraint as grammar
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.resolve import resolve_model

Made = TypeVar("Made")

BATCH, PROMPT, CONTEXT = 32, 16, 512
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "tags"],
}
GRAMMARS = {
    "schema": grammar.json_schema({"type": "array", "items": PERSON, "minItems": 100}),
    "json_object": grammar.json_object(),
    "regex": grammar.regex(r"([A-Za-z]+ )*[0-9]{4}"),
}


def served_core(path: str, eos_token_ids: list[int], library: str) -> EngineCore:
    """The engine of a server with that many rows."""
    recipe = make_recipe(
        path,
        eos_token_ids,
        library,
        max_model_len=CONTEXT,
        max_num_seqs=BATCH,
        kv_memory_bytes=400_000_000,
    )
    core, info = load_engine(recipe, lambda *_: None)
    print(info.numerics)
    return core


def made_beside(make: Callable[[], Made]) -> tuple[Made, list[float]]:
    """What a thread makes while this one asks for the interpreter all the time; and the longest
    times of a processor, in ms, that thread had between two times that this one got it."""
    share_often()
    made, may_end = list[Made](), Event()  # a thread that has ended has no clock
    thread = Thread(target=lambda: (made.append(make()), may_end.wait()))
    thread.start()
    assert thread.ident is not None
    clock, times = time.pthread_getcpuclockid(thread.ident), [0.0]
    while not made:
        times.append(time.clock_gettime(clock))
        time.sleep(0)
    may_end.set()
    thread.join()
    holds = sorted((after - before for before, after in pairwise(times)), reverse=True)
    return made[0], [round(1000 * hold, 1) for hold in holds[:5]]


def decoding(core: EngineCore, serialized: str) -> EngineCore:
    """The engine, with BATCH sequences that have each their first token."""
    for i in range(BATCH):
        sampling = SamplingParams(max_tokens=400, seed=i, ignore_eos=True)
        prompt = [(7 * i + j) % 40_000 + 100 for j in range(PROMPT)]
        request = Request(request_id=str(i), prompt_token_ids=prompt, sampling=sampling)
        core.add(msgspec.structs.replace(request, grammar=serialized))
    while core.stats().num_requests_running < BATCH:
        core.step()
    return core


def turns(free: EngineCore, constrained: EngineCore, rounds: int) -> dict[str, float]:
    """Milliseconds of their steps, which alternate."""
    times = [(timed_step(free), timed_step(constrained)) for _ in range(rounds)]
    return {
        "free_step_ms": statistics.median(t for t, _ in times),
        "constrained_step_ms": statistics.median(t for _, t in times),
        "added_ms": statistics.median(c - f for f, c in times),
    }


def timed_step(core: EngineCore) -> float:
    started = time.perf_counter()
    core.step()
    taken = (time.perf_counter() - started) * 1000
    assert core.stats().num_requests_running == BATCH, "an answer has ended early"
    return taken


def choosing(sampler: Sampler, guidance: LLGuidanceCompiler, vocab_size: int) -> dict[str, float]:
    """Milliseconds of the tokens of 32 rows, by the clock: quickest of twenty."""
    words = empty_masks(BATCH, vocab_size)
    for mask in words:
        guidance.compile(GRAMMARS["json_object"]).fill(mask)
    masks = {"": RowMasks([], words[:0]), "_masked": RowMasks(list(range(BATCH)), words)}
    logits = 3 * torch.randn(BATCH, vocab_size)
    kinds: dict[str, dict[str, Any]] = {
        "greedy": {"temperature": 0.0},
        "draw": {},
        "top_p": {"top_p": 0.9},
        "top_k": {"top_k": 40},
    }
    found: dict[str, float] = {}
    for name, fields in kinds.items():
        draw_params = [
            make_draw_params(SamplingParams(max_tokens=1, seed=i, **fields)) for i in range(BATCH)
        ]
        for kind, own in masks.items():
            times: list[float] = []
            for _ in range(20):
                started = time.perf_counter()
                sampler(logits, draw_params, range(BATCH), own).tolist()
                times.append((time.perf_counter() - started) * 1000)
            found[f"{name}{kind}_ms"] = round(min(times), 3)
    return found


def micro(guidance: LLGuidanceCompiler, serialized: str, vocab_size: int) -> dict[str, float]:
    """Microseconds of processor time of the parts, along random answers."""
    chance = torch.Generator().manual_seed(0)
    times: dict[str, list[float]] = {"follow": [], "fill": []}
    matcher = guidance.compile(serialized)
    answer: list[int] = []
    masks = empty_masks(1, vocab_size)
    while len(times["fill"]) < 300:
        started = time.process_time()
        matcher.follow(answer)
        followed = time.process_time()
        if matcher.is_over:
            matcher, answer = guidance.compile(serialized), []
            continue
        matcher.fill(masks[0])
        filled = time.process_time()
        for name, seconds in zip(times, (followed - started, filled - followed), strict=True):
            times[name].append(seconds * 1e6)
        allowed = (~unpack(masks, vocab_size)[0]).nonzero()[:, 0]
        answer.append(int(allowed[torch.randint(len(allowed), (), generator=chance)]))
    return {
        f"{name}_{label}_us": round(pick(values), 1)
        for name, values in times.items()
        for label, pick in (("median", statistics.median), ("max", max))
    }


def filling(guidance: LLGuidanceCompiler, vocab_size: int) -> dict[str, float]:
    """Milliseconds by the clock of 32 masks, one after the other, as a step does it; median of 300,
    along random answers."""
    chance = torch.Generator().manual_seed(0)
    words = empty_masks(BATCH, vocab_size)
    times: dict[str, list[float]] = {"masks_ms": []}
    matchers, answers = [guidance.compile(GRAMMARS["schema"]) for _ in range(BATCH)], [[]] * BATCH
    for _ in range(300):
        started = time.perf_counter()
        for matcher, mask in zip(matchers, words, strict=True):
            matcher.fill(mask)
        ended = time.perf_counter()
        times["masks_ms"].append((ended - started) * 1000)
        is_allowed = (~unpack(words, vocab_size)).float()  # [BATCH, vocab_size]
        chosen = torch.multinomial(is_allowed, 1, generator=chance)[:, 0].tolist()
        answers = [[*answer, token_id] for answer, token_id in zip(answers, chosen, strict=True)]
        for matcher, answer in zip(matchers, answers, strict=True):
            matcher.follow(answer)
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    build = plan_native()
    build.run()
    path, library = resolve_model(None), str(build.library)
    checkpoint = open_checkpoint(path)
    vocab_size, eos = checkpoint.config.vocab_size, sorted(checkpoint.tokenizer().eos_token_ids)
    recipe = make_recipe(str(path), eos, library)
    started = time.process_time()
    guidance, holds = made_beside(
        lambda: load_guidance(recipe, load_tokenizer(recipe, checkpoint.fingerprint))
    )
    result: dict[str, Any] = {
        "vocabulary_ms": round((time.process_time() - started) * 1000, 1),
        "longest_holds_ms": holds,
    }
    first = [partial(guidance.compile, serialized) for serialized in GRAMMARS.values()]
    _, result["holds_of_first_grammars_ms"] = made_beside(lambda: [each() for each in first])
    print(result)
    for name, serialized in GRAMMARS.items():
        started = time.process_time()
        guidance.compile(serialized, "another").fill(empty_masks(1, vocab_size)[0])
        taken = round((time.process_time() - started) * 1000, 2)
        result[name] = {"compile_ms": taken} | micro(guidance, serialized, vocab_size)
        print(name, result[name])
    cores = [served_core(str(path), eos, library) for _ in range(2)]
    keep_step_buffers()
    native = load_native(library, torch.device("cpu"), torch.float32)
    result["choosing"] = choosing(choose_sampler(native), guidance, vocab_size)
    result["filling"] = filling(guidance, vocab_size)
    print(result["choosing"], result["filling"])
    free, constrained = decoding(cores[0], ""), decoding(cores[1], GRAMMARS["schema"])
    steps = turns(free, constrained, rounds)
    result |= {name: round(taken, 2) for name, taken in steps.items()}
    result["added_percent"] = round(steps["added_ms"] / steps["free_step_ms"] * 100, 2)
    threads = torch.get_num_threads()
    print(json.dumps({"benchmark": "grammar", "batch": BATCH, "threads": threads} | result))


if __name__ == "__main__":
    main()

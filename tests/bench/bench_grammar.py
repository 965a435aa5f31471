"""What following a grammar adds to a step: 32 sequences, the default model's vocabulary.

    python -m tests.bench.bench_grammar [--rounds N]

By processor time of the engine's thread, so that a busy machine does not blur it. First the parts:
a grammar's first mask, then for each token of an answer following it, its mask, and unpacking that.
Then whole steps of 32 free and of 32 constrained answers take turns, over a model that answers at
once with the same noise: what they differ in is the grammar. Last one free step with the default
model's shape and random weights, by the clock, quickest of a few. The last line is JSON.
"""

import argparse
import json
import statistics
import time
from typing import Any

import msgspec
import torch
from torch import Tensor

from model.batch import ForwardBatch
from server.engine.compiler import GrammarCompiler
from server.engine.config import EngineConfig
from server.engine.core import EngineCore
from server.engine.grammar import empty_masks, unpack
from server.engine.guidance import Guidance
from server.engine.runner import ModelRunner
from server.engine.types import Request, SamplingParams
from server.text import grammar
from tests.bench.dummy_engine import dummy_core
from weights.checkpoint import Checkpoint, open_checkpoint
from weights.resolve import resolve_model

BATCH, PROMPT, REAL_STEPS = 32, 16, 5
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


def guidance_of(checkpoint: Checkpoint) -> Guidance:
    tokenizer = checkpoint.tokenizer()
    return Guidance(
        [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)],
        special_token_ids=list(tokenizer.special_tokens.values()),
        eos_token_ids=sorted(tokenizer.eos_token_ids),
        encode=tokenizer.encode,
    )


class Noise:
    """A model that says the same of every token, at once."""

    def __init__(self, vocab_size: int) -> None:
        self._logits = torch.randn(BATCH, vocab_size)

    def __call__(self, batch: ForwardBatch, kv_cache: None, /) -> Tensor:
        return self._logits[: len(batch.logits_indices)]


def instant_core(guidance: Guidance, vocab_size: int) -> EngineCore:
    config = EngineConfig(
        max_model_len=512, num_blocks=BATCH * 32, max_num_batched_tokens=BATCH * PROMPT
    )
    runner = ModelRunner(Noise(vocab_size), None, config, "cpu")
    return EngineCore(config, runner, grammars=GrammarCompiler(guidance.compile))


def decoding(core: EngineCore, serialized: str) -> EngineCore:
    """The engine, with BATCH sequences that have each their first token."""
    for i in range(BATCH):
        sampling = SamplingParams(max_tokens=400, seed=i, ignore_eos=True)
        prompt = [(7 * i + j) % 40_000 + 100 for j in range(PROMPT)]
        request = Request(request_id=str(i), prompt_token_ids=prompt, sampling=sampling)
        core.add(msgspec.structs.replace(request, grammar=serialized))
    while core.stats().generation_tokens_total < BATCH:
        core.step()
    return core


def turns(cores: dict[str, EngineCore], rounds: int) -> dict[str, float]:
    """Milliseconds of processor time of the quickest step of each."""
    found: dict[str, list[float]] = {name: [] for name in cores}
    for _ in range(rounds):
        for name, core in cores.items():
            started = time.thread_time()
            core.step()
            found[name].append((time.thread_time() - started) * 1000)
            assert core.stats().num_requests_running == BATCH, "an answer has ended early"
    return {name: min(times) for name, times in found.items()}


def real_step() -> float:
    """Milliseconds by the clock of the quickest free step with the default model's shape."""
    core = decoding(
        dummy_core(max_model_len=512, max_num_batched_tokens=BATCH * PROMPT, num_blocks=BATCH * 32),
        "",
    )
    times: list[float] = []
    for _ in range(REAL_STEPS):
        started = time.perf_counter()
        core.step()
        times.append((time.perf_counter() - started) * 1000)
    return min(times)


def micro(guidance: Guidance, serialized: str, vocab_size: int) -> dict[str, float]:
    """Microseconds of processor time of the parts, along random answers."""
    chance = torch.Generator().manual_seed(0)
    times: dict[str, list[float]] = {"follow": [], "mask": [], "unpack": []}
    matcher = guidance.compile(serialized)
    answer: list[int] = []
    masks = empty_masks(1, vocab_size)
    while len(times["mask"]) < 300:
        started = time.process_time()
        matcher.follow(answer)
        followed = time.process_time()
        if matcher.is_over:
            matcher, answer = guidance.compile(serialized), []
            continue
        matcher.fill(masks[0])
        masked = time.process_time()
        forbidden = unpack(masks, vocab_size)[0]
        unpacked = time.process_time()
        for name, seconds in zip(
            times, (followed - started, masked - followed, unpacked - masked), strict=True
        ):
            times[name].append(seconds * 1e6)
        allowed = (~forbidden).nonzero()[:, 0]
        answer.append(int(allowed[torch.randint(len(allowed), (), generator=chance)]))
    return {
        f"{name}_{label}_us": round(pick(values), 1)
        for name, values in times.items()
        for label, pick in (("median", statistics.median), ("max", max))
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    checkpoint = open_checkpoint(resolve_model(None))
    vocab_size = checkpoint.config.vocab_size
    started = time.process_time()
    guidance = guidance_of(checkpoint)
    result: dict[str, Any] = {"tokenizer_ms": round((time.process_time() - started) * 1000, 1)}
    for name, serialized in GRAMMARS.items():
        started = time.process_time()
        guidance.compile(serialized).fill(empty_masks(1, vocab_size)[0])
        compiled = round((time.process_time() - started) * 1000, 2)
        result[name] = {"compile_ms": compiled} | micro(guidance, serialized, vocab_size)
        print(name, result[name])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # all of a step's work in the thread whose time is read
    kinds = {"free": "", "schema": GRAMMARS["schema"]}
    cores = {n: decoding(instant_core(guidance, vocab_size), text) for n, text in kinds.items()}
    quickest = turns(cores, rounds)
    torch.set_num_threads(threads)
    added, real = quickest["schema"] - quickest["free"], real_step()
    result |= {
        "added_ms": round(added, 2),
        "real_step_ms": round(real, 1),
        "added_percent": round(added / real * 100, 2),
    }
    print(json.dumps({"benchmark": "grammar", "batch": BATCH, "threads": threads} | result))


if __name__ == "__main__":
    main()

"""What following a grammar adds to a step: 32 sequences of the default model's shape.

    python -m tests.bench.bench_grammar [--rounds N] [--threads N]

Weights are random and the vocabulary is the default model's own (49,152 tokens). First the parts,
by processor time: a grammar's first mask, then for each token of an answer following it, its mask,
and unpacking that. Then steps of 32 free and of 32 constrained answers take turns, so that a busy
machine troubles both alike; what is added is told of the quickest of each. The last line is JSON.
"""

import argparse
import json
import statistics
import time
from typing import Any

import msgspec
import torch

from server.engine.core import EngineCore
from server.engine.grammar import unpack
from server.engine.guidance import Guidance
from server.engine.types import Request, SamplingParams
from server.text import grammar
from tests.bench.dummy_engine import dummy_core, dummy_model
from weights.checkpoint import Checkpoint, open_checkpoint
from weights.resolve import resolve_model

BATCH, PROMPT, WARM_UP = 32, 16, 2
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


def decoding_core(guidance: Guidance, serialized: str, model: Any) -> EngineCore:
    """An engine whose next steps are one token for each of BATCH sequences."""
    core = dummy_core(
        max_model_len=512,
        max_num_batched_tokens=512,
        num_blocks=BATCH * 32,
        model=model,
        compile_grammar=guidance.compile,
    )
    for i in range(BATCH):
        sampling = SamplingParams(
            max_tokens=400, temperature=1.0, seed=i, ignore_eos=not serialized
        )
        prompt = [(7 * i + j) % 40_000 + 100 for j in range(PROMPT)]
        request = Request(request_id=str(i), prompt_token_ids=prompt, sampling=sampling)
        core.add(msgspec.structs.replace(request, grammar=serialized))
    while core.stats().generation_tokens_total < BATCH * WARM_UP:
        core.step()
    return core


def steps(cores: dict[str, EngineCore], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each step of full batches."""
    found: dict[str, list[float]] = {name: [] for name in cores}
    for _ in range(rounds):
        for name, core in cores.items():
            assert core.stats().num_requests_running == BATCH, "an answer has ended early"
            started = time.perf_counter()
            core.step()
            found[name].append((time.perf_counter() - started) * 1000)
    return found


def micro(guidance: Guidance, serialized: str, vocab_size: int) -> dict[str, float]:
    """Microseconds of processor time of the parts, along random answers."""
    chance = torch.Generator().manual_seed(0)
    times: dict[str, list[float]] = {"follow": [], "mask": [], "unpack": []}
    matcher = guidance.compile(serialized)
    answer: list[int] = []
    while len(times["mask"]) < 300:
        started = time.process_time()
        matcher.follow(answer)
        followed = time.process_time()
        if matcher.is_over:
            matcher, answer = guidance.compile(serialized), []
            continue
        mask = matcher.mask()
        masked = time.process_time()
        forbidden = unpack(mask, vocab_size)
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
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    checkpoint = open_checkpoint(resolve_model(None))
    started = time.process_time()
    guidance = guidance_of(checkpoint)
    result: dict[str, Any] = {"tokenizer_ms": round((time.process_time() - started) * 1000, 1)}
    for name, serialized in GRAMMARS.items():
        started = time.process_time()
        guidance.compile(serialized).mask()
        compiled = round((time.process_time() - started) * 1000, 2)
        result[name] = {"compile_ms": compiled} | micro(
            guidance, serialized, checkpoint.config.vocab_size
        )
        print(name, result[name])
    model = dummy_model()
    kinds = {"free": "", "schema": GRAMMARS["schema"]}
    cores = {name: decoding_core(guidance, text, model) for name, text in kinds.items()}
    found = steps(cores, args.rounds)
    free = min(found["free"])
    for name, values in found.items():
        median = statistics.median(values)
        result[f"step_{name}"] = {
            "median_ms": round(median, 2),
            "max_ms": round(max(values), 2),
            "min_ms": round(min(values), 2),
            "added_percent": round((min(values) / free - 1) * 100, 2),
            "steps": len(values),
        }
        print(f"{name:12s}", result[f"step_{name}"])
    print(json.dumps({"benchmark": "grammar", "batch": BATCH, "threads": args.threads} | result))


if __name__ == "__main__":
    main()

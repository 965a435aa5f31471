"""What serving costs: the same requests through HTTP and server-sent events, and in this process.

A checkpoint of random weights is written, `thirdeye serve` is started over it as a user starts it,
and so many clients stream at the same time. Then the same work by the engine alone, with its sizes.
Each is done twice, and counts the second time: what is captured and compiled is there by then.
"""

import asyncio
import gc
import random
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tests.bench.server.light import ask, with_wire
from tests.e2e.live import LiveServer
from tests.gpu.checkpoint import write_checkpoint
from thirdeye.clients.loadtest.driver.wire import Wire
from thirdeye.model.config import ModelConfig
from thirdeye.server.bench.engine import EngineBench, checked
from thirdeye.server.bench.report import Plan

NAME = "random"
START_SECONDS, ROUND_SECONDS = 120.0, 30.0  # at most: two imports of torch, a trial, 54 captures
ROUNDS = 2
TEMPERATURE = 0.6  # as `EngineBench.request`


def served(
    device: torch.device, config: ModelConfig, num_streams: int, num_prompt: int, num_tokens: int
) -> dict[str, Any]:
    """So many streams at a time, of prompts and answers of so many tokens."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    sizes = {"num_streams": num_streams, "num_prompt": num_prompt, "num_tokens": num_tokens}
    with TemporaryDirectory(prefix="thirdeye-") as folder:
        write_checkpoint(Path(folder), config, dtype, device)
        alone = in_process(folder, device, config.vocab_size, **sizes)
        gc.collect()  # its memory is the server's
        if device.type == "cuda":
            torch.cuda.empty_cache()
        over_http = over_sse(folder, device, config.vocab_size, **sizes)
    return sizes | {
        "served_tokens_per_second": over_http,
        "in_process_tokens_per_second": alone,
        "share_of_in_process": over_http / alone,
    }


def prompts(num_streams: int, num_prompt: int, vocab_size: int, number: int) -> list[list[int]]:
    """Of one round; no two have a beginning in common."""
    draw = random.Random(number)
    return [[draw.randrange(vocab_size) for _ in range(num_prompt)] for _ in range(num_streams)]


def in_process(
    folder: str,
    device: torch.device,
    vocab_size: int,
    num_streams: int,
    num_prompt: int,
    num_tokens: int,
) -> float:
    """Tokens a second of the engine alone."""
    bench = EngineBench(Plan(folder, [], [], 1, 0, str(device), "auto", "auto", bandwidth=1e12))
    longest = num_prompt + num_tokens
    core = bench.engine(num_streams, num_streams * longest, longest)
    rate = 0.0
    for number in range(ROUNDS):
        texts = prompts(num_streams, num_prompt, vocab_size - 1, number)
        started, done = time.perf_counter(), 0
        for i, prompt in enumerate(texts):
            core.add(bench.request(number * num_streams + i, prompt, num_tokens))
        while core.has_work:
            done += sum(len(output.token_ids) for output in checked(core))
        rate = done / (time.perf_counter() - started)
    return rate


def over_sse(
    folder: str,
    device: torch.device,
    vocab_size: int,
    num_streams: int,
    num_prompt: int,
    num_tokens: int,
) -> float:
    """Tokens a second that clients have read, counted from `usage`."""
    most = max(8192 if device.type == "cuda" else 512, num_streams)  # as `EngineBench.engine`
    server = LiveServer(
        [
            *(folder, "--served-model-name", NAME, "--device", str(device)),
            *("--max-num-seqs", str(num_streams), "--max-num-batched-tokens", str(most)),
            *("--max-model-len", str(num_prompt + num_tokens), "--quantize", "none"),
            *("--speculation", "off"),
        ]
    ).start(START_SECONDS)
    rate = 0.0
    try:
        for number in range(ROUNDS):
            texts = prompts(num_streams, num_prompt, vocab_size - 1, number)
            rate = stream_all(server.url, texts, num_tokens, number * num_streams)
    finally:
        server.stop()
    return rate


def stream_all(url: str, texts: Sequence[list[int]], num_tokens: int, seed: int) -> float:
    """All at the same time -> tokens a second."""

    async def all_of_them(wire: Wire) -> float:
        started = time.perf_counter()
        async with asyncio.timeout(ROUND_SECONDS):
            answers = await asyncio.gather(
                *(
                    ask(wire, body_of(prompt, num_tokens, seed + i))
                    for i, prompt in enumerate(texts)
                )
            )
        seconds = time.perf_counter() - started
        return sum(answer.usage()["completion_tokens"] for answer in answers) / seconds

    return with_wire(url, all_of_them)


def body_of(prompt: list[int], num_tokens: int, seed: int) -> dict[str, Any]:
    return {
        "model": NAME,
        "prompt": prompt,
        "max_tokens": num_tokens,
        "temperature": TEMPERATURE,
        "seed": seed,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

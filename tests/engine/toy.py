"""A model whose every logit depends on the exact content of the KV cache, and builders around it.

It stores each token and its position in its slot, and hashes what it reads back, slot by slot, into
the next token's logits: one wrong read, and the answer is another one. `toy_logits` is its twin
that needs no cache at all.
"""

import asyncio
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.inspection.inspection_queue import Inspect
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.trace import Array, Trace, TraceRequest
from thirdeye.server.engine.interface.types import (
    Engine,
    EngineInfo,
    Request,
    SamplingParams,
    StepOutput,
)

VOCAB = 40
EOS = 0


class ToyCache:
    """[num_slots] tokens and positions; -1 where nothing was written."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.tokens = torch.full((num_blocks * block_size,), -1)
        self.positions = torch.full((num_blocks * block_size,), -1)


class ToyModel:
    def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> Tensor:
        kv_cache.tokens[batch.slot_mapping] = batch.input_ids
        kv_cache.positions[batch.slot_mapping] = batch.positions
        rows = [self._row(batch, kv_cache, t) for t in batch.logits_indices.tolist()]
        return torch.stack(rows) if rows else torch.empty(0, VOCAB)

    def with_hidden(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> tuple[Tensor, Tensor]:
        """Hidden states are each token and its position."""
        hidden = torch.stack([batch.input_ids, batch.positions], dim=1).float()  # [T, 2]
        return self(batch, kv_cache), hidden

    def _row(self, batch: ForwardBatch, kv_cache: ToyCache, t: int) -> Tensor:
        b = int(batch.query_start_loc.numpy().searchsorted(t, side="right")) - 1
        num_keys, size = int(batch.positions[t]) + 1, kv_cache.block_size
        assert num_keys <= int(batch.seq_lens[b])
        blocks = batch.block_table[b].numpy()[: -(-num_keys // size)]
        slots = (blocks[:, None] * size + np.arange(size)).ravel()[:num_keys]
        assert len(slots) == num_keys, "its blocks do not hold as many"
        tokens, positions = kv_cache.tokens.numpy()[slots], kv_cache.positions.numpy()[slots]
        return _logits_of(tuple(tokens.tolist()), tuple(positions.tolist()))


def toy_logits(token_ids: Sequence[int]) -> Tensor:
    """What the toy model should say after `token_ids`: [VOCAB]."""
    return _logits_of(tuple(token_ids), tuple(range(len(token_ids))))


@lru_cache(maxsize=100_000)
def _logits_of(token_ids: tuple[int, ...], positions: tuple[int, ...]) -> Tensor:
    digest = blake2b(repr((token_ids, positions)).encode(), digest_size=8).digest()
    noise = np.random.default_rng(int.from_bytes(digest, "little"))
    logits = noise.normal(0, 2, VOCAB)
    logits[EOS] -= 2
    return torch.from_numpy(logits).float()


def toy_config(**sizes: object) -> EngineConfig:
    defaults: dict[str, object] = {
        "max_model_len": 128,
        "num_blocks": 64,
        "block_size": 4,
        "max_num_seqs": 16,
        "max_num_batched_tokens": 64,
        "eos_token_ids": [EOS],
    }
    return EngineConfig(**(defaults | sizes))  # type: ignore[arg-type]  # plain test sizes


def toy_info(config: EngineConfig) -> EngineInfo:
    return EngineInfo(
        num_parameters=0,
        max_model_len=config.max_model_len,
        vocab_size=VOCAB,
        device="cpu",
        dtype="float32",
        num_blocks=config.num_blocks,
        block_size=config.block_size,
        max_num_seqs=config.max_num_seqs,
    )


def toy_core(
    config: EngineConfig | None = None,
    model: ToyModel | None = None,
    inspect: Inspect | None = None,
) -> EngineCore:
    config = config or toy_config()
    cache = ToyCache(config.num_blocks, config.block_size)
    runner = ModelRunner(model or ToyModel(), cache, config, "cpu")
    return EngineCore(config, runner, inspect=inspect or toy_inspect)


def toy_inspect(request: TraceRequest) -> Iterator[Trace | None]:
    """Each layer in two pieces; a text that begins with EOS cannot be looked into."""
    assert request.token_ids[0] != EOS
    num_tokens = len(request.token_ids)
    ones = Array([1, num_tokens, num_tokens], array("f", [1.0] * num_tokens**2).tobytes())
    for layer in request.layers:
        yield None
        yield Trace(request_id=request.request_id, layer=layer, arrays={"pattern": ones})
    yield Trace(request_id=request.request_id, lens=[[(7, -0.5)]], is_last=True)


def make_request(
    request_id: str = "r",
    prompt: Sequence[int] = (5, 6, 7),
    *,
    priority: int = 0,
    cache_salt: str = "",
    tenant: str = "",
    adapter: int = 0,
    **sampling: object,
) -> Request:
    params = {"max_tokens": 8, "temperature": 0.0} | sampling
    return Request(
        request_id=request_id,
        prompt_token_ids=list(prompt),
        sampling=SamplingParams(**params),  # type: ignore[arg-type]  # plain test parameters
        priority=priority,
        cache_salt=cache_salt,
        tenant=tenant,
        adapter=adapter,
    )


def greedy_reference(request: Request) -> list[int]:
    """No cache, no batch: the whole text again for each token."""
    token_ids = list(request.prompt_token_ids)
    generated: list[int] = []
    while len(generated) < request.sampling.max_tokens:
        generated.append(int(toy_logits([*token_ids, *generated]).argmax()))
        if generated[-1] == EOS and not request.sampling.ignore_eos:
            break
    return generated


def drain(core: EngineCore, limit: int = 5000) -> dict[str, list[StepOutput]]:
    """Step until nothing is left to do."""
    outputs: dict[str, list[StepOutput]] = {}
    for _ in range(limit):
        if not core.has_work:
            return outputs
        for output in core.step():
            outputs.setdefault(output.request_id, []).append(output)
    raise AssertionError("the engine does not come to an end")


def run_all(core: EngineCore, requests: Sequence[Request]) -> dict[str, list[StepOutput]]:
    for request in requests:
        core.add(request)
    return drain(core)


def tokens_of(outputs: Sequence[StepOutput]) -> list[int]:
    return [token_id for output in outputs for token_id in output.token_ids]


async def collect(engine: Engine, request: Request) -> list[StepOutput]:
    return [output async for output in engine.generate(request)]


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for a condition to become true, `timeout` seconds at most."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)

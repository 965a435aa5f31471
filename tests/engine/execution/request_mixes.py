"""Requests to mix, and ways to cut their work, for tests that an answer depends on neither."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.toy import make_request, run_all, tokens_of
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_groups import kv_groups, one_group
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.adapter_loader import AdapterFiles, AdapterLoader
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.draft_model import DraftModel
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import Request, StepOutput

Answer = tuple[object, ...]

# Sizes of the engine for each way to cut prompts.
CUTS: dict[str, dict[str, int]] = {
    "whole": {},
    "chunks of 64": {"max_num_batched_tokens": 64, "max_num_seqs": 64},
    "chunks of 7": {"max_num_batched_tokens": 7, "max_num_seqs": 7},
    "chunks of 1": {"max_num_batched_tokens": 1, "max_num_seqs": 1},
}


def make_core(
    model: Transformer,
    kv_dtype: torch.dtype = torch.float32,
    *,
    keeps_all: bool = False,
    num_blocks: int | None = None,
    draft: Transformer | None = None,
    **sizes: object,
) -> EngineCore:
    """An engine over a fp32 model on the CPU, with an empty cache of blocks of 16: so many for each
    group of layers. With `keeps_all` windows are masks alone, and nothing is given back. `draft`:
    a model that guesses, where `sizes` allow guesses."""
    context = model.config.max_position_embeddings
    groups = one_group(model.config) if keeps_all else kv_groups(model.config)
    defaults: dict[str, object] = {
        "max_model_len": context,
        "num_blocks": len(groups.windows) * (num_blocks or 8 * context // 16),
        "windows": groups.windows,
        "max_num_seqs": 32,
        "max_num_batched_tokens": 8 * context,
        "num_states": 40 if model.config.state else 0,
    }
    config = EngineConfig(**(defaults | sizes))  # type: ignore[arg-type]  # plain test sizes
    cache = make_kv_cache(
        model.config,
        config.num_blocks,
        16,
        kv_dtype,
        torch.device("cpu"),
        config.num_states,
        groups,
    )
    proposer = None if draft is None else make_drafts(draft, config)
    if model.adapters is None:
        return EngineCore(config, ModelRunner(model, cache, config, "cpu"), proposer=proposer)
    runner = ModelRunner(model, cache, config, "cpu", adapter_slots=model.adapters.slots)
    loader = AdapterLoader(model.adapters, no_files, 1 << 20)
    return EngineCore(config, runner, adapters=loader, proposer=proposer)


def make_drafts(model: Transformer, served: EngineConfig) -> DraftModel:
    """By this model, whose time is not counted."""
    num_blocks = served.num_blocks // len(served.windows)
    config = replace(served, num_blocks=num_blocks, windows=(0,), num_states=0)
    cache = make_kv_cache(model.config, num_blocks, 16, torch.float32, torch.device("cpu"))
    return DraftModel(ModelRunner(model, cache, config, "cpu"), config, clock=lambda: 0.0)


def no_files(path: str) -> AdapterFiles:
    raise OSError(f"{path}: there are no files here")


def answer(outputs: Sequence[StepOutput]) -> Answer:
    """What a client sees, bit for bit, without what may differ: cached tokens and times."""
    logprobs = [entry for output in outputs for entry in output.logprobs or []]
    return tokens_of(outputs), logprobs, outputs[0].prompt_logprobs, outputs[-1].finish_reason


def answers(core: EngineCore, requests: Sequence[Request]) -> dict[str, Answer]:
    return {name: answer(outputs) for name, outputs in run_all(core, requests).items()}


def alone(make_core: Callable[[], EngineCore], requests: Sequence[Request]) -> dict[str, Answer]:
    """Each request in an engine of its own."""
    return {
        request.request_id: answers(make_core(), [request])[request.request_id]
        for request in requests
    }


def mixes(
    vocab_size: int, max_prompt: int, max_tokens: int, max_requests: int
) -> st.SearchStrategy[list[Request]]:
    """Lists of requests: greedy and drawn, scored or not, many with a beginning in common, and many
    that repeat themselves, so that there is something to draft."""
    one = st.fixed_dictionaries(
        {
            "common": st.integers(0, max_prompt - 1),  # prompt tokens shared with the others
            "length": st.integers(1, max_prompt),
            "period": st.sampled_from([1, 5, max_prompt]),  # its own tokens come again after it
            "max_tokens": st.integers(1, max_tokens),
            "temperature": st.sampled_from([0.0, 1.0]),
            "prompt_logprobs": st.sampled_from([None, 3]),
            "seed": st.integers(0, 2**32),
        }
    )

    def build(choices: list[dict[str, Any]]) -> list[Request]:
        shared = random.Random(0).choices(range(vocab_size), k=max_prompt)
        requests = []
        for i, choice in enumerate(choices):
            common, length = choice.pop("common"), choice.pop("length")
            period = random.Random(choice["seed"]).choices(
                range(vocab_size), k=choice.pop("period")
            )
            own = [period[j % len(period)] for j in range(length)]
            prompt = (shared[:common] + own)[:max_prompt]
            requests.append(make_request(str(i), prompt, logprobs=2, ignore_eos=True, **choice))
        return requests

    return st.lists(one, min_size=1, max_size=max_requests).map(build)

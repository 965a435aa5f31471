"""A few requests before the first real one, so that nobody waits for what happens once.

The libraries below choose kernels, compile some, and take their working memory at the first step:
tens of milliseconds, more on a GPU. A small step is recorded when its shape comes again
(`model/taped.py`): so one comes again here, and what cannot be recorded is known to the ready line.
A GPU's kernels are compiled at their first launch, seconds each, and some have a form for few rows
and one for many: there a prompt of each length comes, one after the other.
The requests run in a scheduler of their own, so neither a counter nor the prefix cache of the
engine knows of them; the KV they leave is in no block's table.
"""

from collections.abc import Sequence

import msgspec
import torch

from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import Runner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import Request, SamplingParams

NUM_PROMPT_TOKENS = 2
ON_A_GPU = (10, 20, 50, 150)
NUM_ANSWER_TOKENS = 3  # one of the step that the prompt needs, and of two steps alike


def prompt_lengths(device: torch.device, max_num_batched_tokens: int) -> list[int]:
    """Numbers of rows at which kernels, or what multiplies, change: on a GPU at 16, 32, 64 and 256,
    and where there are enough rows for every multiprocessor. Two prompts go together."""
    if device.type == "cpu":
        return [NUM_PROMPT_TOKENS]
    lengths = [n for n in (NUM_PROMPT_TOKENS, *ON_A_GPU) if n < max_num_batched_tokens]
    return [*lengths, max_num_batched_tokens]


def warm_up(
    runner: Runner, config: EngineConfig, prompt_lengths: Sequence[int] = (NUM_PROMPT_TOKENS,)
) -> None:
    """Compute a greedy and a sampled answer to so many tokens 0, and forget them."""
    alike = msgspec.structs.replace(
        config, num_draft_tokens=0, enable_prefix_caching=False
    )  # nobody's guess makes a step longer, and no prompt shortens the next
    core = EngineCore(alike, runner)
    num_blocks = config.num_blocks // len(config.windows)
    most = min(config.max_model_len - 1, (num_blocks - 2) * config.block_size // 2)
    for length in prompt_lengths:
        for number, temperature in enumerate((0.0, 1.0)):
            sampling = SamplingParams(
                max_tokens=NUM_ANSWER_TOKENS, temperature=temperature, top_p=0.9, ignore_eos=True
            )
            prompt = [0] * max(1, min(length, most))
            name = f"warm-up-{length}-{number}"
            core.add(Request(request_id=name, prompt_token_ids=prompt, sampling=sampling))
        while core.has_work:
            core.step()

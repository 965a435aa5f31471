"""What is really free for keys and values: the largest step is tried before they are given memory.

A step's own memory (activations, logits, what sampling sorts) is known to nobody in advance, so it
is measured: as many rows as there may be, as many tokens as a step may have, every one of them
scored, sampled in the costliest way; then a step of decoding, whose memory a captured graph keeps
for itself. What is left below the share that the operator grants is the cache's. Later steps are
no larger, so none can run out.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from server.engine.config import EngineConfig
from server.engine.core import EngineCore
from server.engine.memory import GIB
from server.engine.types import FinishReason, Request, SamplingParams

MORE_TOKENS = 3  # of an answer, behind each prompt
MOST_LOGPROBS = 20

MakeCore = Callable[[EngineConfig], EngineCore]


class Memory(Protocol):
    """A device's memory, in bytes."""

    def release(self) -> None:
        """Give back what is kept for later, and forget the peak."""

    def reset_peak(self) -> None: ...

    @property
    def total(self) -> int: ...

    @property
    def others(self) -> int:
        """In use, but not for tensors: other processes, the driver, libraries."""

    @property
    def allocated(self) -> int:
        """For tensors, now."""

    @property
    def peak(self) -> int:
        """For tensors and the gaps between them, at most, since it was last reset."""


class CudaMemory:
    """A GPU's, as torch's allocator and the driver tell."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def release(self) -> None:
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        self.reset_peak()

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def total(self) -> int:
        return torch.cuda.mem_get_info(self._device)[1]

    @property
    def others(self) -> int:
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free - torch.cuda.memory_reserved(self._device)

    @property
    def allocated(self) -> int:
        return torch.cuda.memory_allocated(self._device)

    @property
    def peak(self) -> int:
        return torch.cuda.max_memory_reserved(self._device)


@dataclass(frozen=True, slots=True)
class Usage:
    """Where a device's memory goes, in bytes."""

    total: int
    granted: int  # of the total, to all of what follows
    others: int
    weights: int
    step: int  # the largest, on top of weights and cache
    captured: int  # a step of decoding, once more

    @property
    def kv(self) -> int:
        """What is left."""
        return self.granted - self.others - self.weights - self.step - self.captured

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "largest step": self.step,
            "graphs": self.captured,
            "others": self.others,
            "KV": self.kv,
        }
        told = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())
        return f"{self.granted / GIB:.2f} of {self.total / GIB:.2f} GiB: {told}"


def measure(make_core: MakeCore, sizes: EngineConfig, memory: Memory, share: float) -> Usage:
    """Try the largest step of an engine of these sizes (see `trial_config`).

    Call it when the weights are loaded. Raises ValueError if not even the trial fits.
    """
    memory.release()
    weights = memory.allocated
    core = make_core(sizes)
    cache = memory.allocated - weights
    for request in largest_requests(sizes):
        core.add(request)
    started: set[str] = set()
    while len(started) < sizes.max_num_seqs:
        started |= checked_step(core)  # the first is as large as there is
    step = memory.peak - weights - cache
    memory.release()  # what the first steps reserved must not count as the next one's
    before = memory.allocated
    checked_step(core)
    captured = memory.peak - before
    others = memory.others
    del core
    gc.collect()  # an engine refers to itself: else its cache lives on beside the real one
    memory.release()
    return Usage(
        memory.total, int(share * memory.total), max(0, others), weights, step, max(0, captured)
    )


def trial_config(
    max_num_batched_tokens: int, max_num_seqs: int, block_size: int, context: int
) -> EngineConfig:
    """An engine that holds no more than the trial's own tokens."""
    length = -(-max_num_batched_tokens // max_num_seqs)  # rounded up: together they fill a step
    longest = min(length + MORE_TOKENS, context)
    return EngineConfig(
        max_model_len=longest,
        num_blocks=2 * max_num_seqs * -(-longest // block_size) + 1,  # none waits for a block
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        enable_prefix_caching=False,
    )


def largest_requests(sizes: EngineConfig) -> list[Request]:
    """One a row: prompts that fill the step together, each token scored, sampling that sorts."""
    length = max(1, sizes.max_model_len - MORE_TOKENS)
    sampling = SamplingParams(
        max_tokens=MORE_TOKENS,
        top_p=0.9,
        frequency_penalty=0.1,
        ignore_eos=True,
        logprobs=MOST_LOGPROBS,
        prompt_logprobs=MOST_LOGPROBS,
    )
    return [
        Request(request_id=f"trial-{row}", prompt_token_ids=[0] * length, sampling=sampling)
        for row in range(sizes.max_num_seqs)
    ]


def checked_step(core: EngineCore) -> set[str]:
    """Who got a token. Raises ValueError if the step failed."""
    outputs = core.step()
    for output in outputs:
        if output.finish_reason is FinishReason.ERROR:
            raise ValueError(
                "The largest step cannot be computed here: lower '--max-num-batched-tokens' or "
                f"'--max-num-seqs'. ({output.error})"
            )
    return {output.request_id for output in outputs if output.token_ids}

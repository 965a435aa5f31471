"""What is really free for keys and values: the largest step is tried before they are given memory.

A step's own memory (activations, logits, what sampling sorts) is known to nobody in advance, so it
is measured: as many rows as there may be, as many tokens as a step may have, every one of them
scored, sampled in the costliest way; then every graph that will serve is captured, and a step of
decoding computed: graphs keep their memory, of which some is the driver's. What the decode loop
keeps on the device (counts, biases, masks, logits) is there while that is tried. What is left below
the share that the operator grants is the cache's. Later steps are no larger, so none can run out.

On several ranks all of them compute the same trial at the same time. Rank 0 measures so; what the
others have left is measured by `MeasuredKVBudget`, around the steps that they are told.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from thirdeye.server.engine.cache.device_memory import DeviceMemory, MemoryUsage
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import EngineDead, FinishReason, Request, SamplingParams

MORE_TOKENS = 3  # of an answer, behind each prompt
MOST_LOGPROBS = 20

STEP_TOO_LARGE = (
    "The largest step cannot be computed here: lower '--max-num-batched-tokens' or "
    "'--max-num-seqs'."
)


class TriedEngine(NamedTuple):
    """What is tried. All that it takes beside its caches, it keeps."""

    core: EngineCore
    cache: int  # bytes
    capture: Callable[[], None]  # all graphs, as an engine does before it serves


MakeCore = Callable[[EngineConfig], TriedEngine]
"""An engine of these sizes."""


def profile_memory(
    make_core: MakeCore, sizes: EngineConfig, memory: DeviceMemory, share: float
) -> MemoryUsage:
    """Try the largest step of an engine of these sizes (see `trial_config`).

    Call it when the weights are loaded. Raises ValueError if not even the trial fits.
    """
    memory.release()
    weights = memory.allocated
    core, cache, capture = make_core(sizes)
    state = memory.allocated - weights - cache
    requests = largest_requests(sizes)
    for request in requests:
        core.add(request)
    num_tokens = sum(len(request.prompt_token_ids) for request in requests)
    started: set[str] = set()
    for _ in range(-(-num_tokens // sizes.max_num_batched_tokens)):
        started |= checked_step(core)  # the first is as large as there is
    step = memory.peak - weights - cache - state
    while len(started) < sizes.max_num_seqs:  # one that runs ahead tells later, and has captured
        started |= checked_step(core)
    memory.release()  # what the first steps reserved must not count as the next one's
    before = memory.allocated
    capture()
    checked_step(core)
    captured = memory.peak - before
    others = memory.others
    del core, capture
    gc.collect()  # an engine refers to itself: else its cache lives on beside the real one
    memory.release()
    return MemoryUsage(
        total=memory.total,
        granted=int(share * memory.total),
        others=max(0, others),
        weights=weights,
        step=step,
        captured=max(0, captured),
        state=state,
    )


class KVBudget(Protocol):
    """How much a rank that follows has for keys and values."""

    def start_trial(self) -> None:
        """The trial's cache is there, its steps are not, nor what a decode loop keeps."""

    def start_captures(self) -> None:
        """The largest step is done; now graphs are captured, and a step of decoding computed."""

    def num_bytes(self) -> int:
        """Bytes. If there was a trial, its last step is done and its cache still there."""


@dataclass(frozen=True, slots=True)
class FixedKVBudget:
    """What is known without a trial."""

    size: int  # bytes

    def start_trial(self) -> None:
        """Nothing is measured."""

    def start_captures(self) -> None:
        """As little."""

    def num_bytes(self) -> int:
        return self.size


class MeasuredKVBudget:
    """What is left behind a trial; made when the rank's weights are loaded."""

    def __init__(self, memory: DeviceMemory, share: float) -> None:
        self._memory, self._share = memory, share
        memory.release()
        self._weights = memory.allocated
        self._cache = 0
        self._step: int | None = None  # until graphs are captured it is the peak that says it
        self._before = 0

    def start_trial(self) -> None:
        self._memory.reset_peak()
        self._cache = self._memory.allocated - self._weights

    def start_captures(self) -> None:
        self._step = self._peak_step()
        self._memory.release()
        self._before = self._memory.allocated

    def _peak_step(self) -> int:
        """With what a decode loop keeps."""
        return self._memory.peak - self._weights - self._cache

    def num_bytes(self) -> int:
        memory, captured = self._memory, 0
        step = self._peak_step() if self._step is None else self._step
        if self._step is not None:
            captured = max(0, memory.peak - self._before)
        granted, others = int(self._share * memory.total), max(0, memory.others)
        return MemoryUsage(memory.total, granted, others, self._weights, step, captured).kv


def trial_config(
    max_num_batched_tokens: int,
    max_num_seqs: int,
    block_size: int,
    context: int,
    *,
    has_states: bool = False,
    windows: tuple[int, ...] = (0,),
    steps_ahead: int = 0,
    num_draft_tokens: int = 0,
    max_tokens_with_drafts: int = 16,
) -> EngineConfig:
    """An engine that holds no more than the trial's own tokens.

    `max_num_seqs`: rows of a step of decoding; where guesses are verified a step late each of them
    is one, so there may be more of them than sequences. Guesses are not made in the trial, whose
    requests have penalties; the graphs that verify them are captured.
    """
    length = -(-max_num_batched_tokens // max_num_seqs)  # rounded up: together they fill a step
    longest = min(length + MORE_TOKENS, context)
    return EngineConfig(
        max_model_len=longest,
        num_blocks=len(windows) * 2 * max_num_seqs * -(-longest // block_size) + 1,  # none waits
        windows=windows,
        block_size=block_size,
        num_states=max(2, max_num_seqs) if has_states else 0,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        enable_prefix_caching=False,
        steps_ahead=steps_ahead,
        num_draft_tokens=num_draft_tokens,
        max_tokens_with_drafts=max_tokens_with_drafts,
    )


def largest_requests(sizes: EngineConfig) -> list[Request]:
    """One a row: prompts that fill one step together, each token scored, sampling that sorts. All
    begin in the same step, so that none has ended when all of them decode."""
    longest = max(1, sizes.max_model_len - MORE_TOKENS)
    length, num_longer = divmod(sizes.max_num_batched_tokens, sizes.max_num_seqs)
    lengths = [min(longest, length + (row < num_longer)) for row in range(sizes.max_num_seqs)]
    sampling = SamplingParams(
        max_tokens=MORE_TOKENS,
        top_p=0.9,
        frequency_penalty=0.1,
        logit_bias={0: 1.0},
        ignore_eos=True,
        logprobs=MOST_LOGPROBS,
        prompt_logprobs=MOST_LOGPROBS,
    )
    return [
        Request(request_id=f"trial-{row}", prompt_token_ids=[0] * length, sampling=sampling)
        for row, length in enumerate(lengths)
    ]


def checked_step(core: EngineCore) -> set[str]:
    """Who got a token. Raises ValueError if the step failed."""
    try:
        outputs = core.step()
    except EngineDead as error:  # with several ranks a step that failed is the end of them all
        raise ValueError(f"{STEP_TOO_LARGE} ({error})") from error
    for output in outputs:
        if output.finish_reason is FinishReason.ERROR:
            raise ValueError(f"{STEP_TOO_LARGE} ({output.error})")
    return {output.request_id for output in outputs if output.token_ids}

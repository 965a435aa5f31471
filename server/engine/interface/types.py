"""The engine's border: plain data, tokens in, tokens out, and the protocol `Engine`.

These structs travel between processes as msgpack, so they hold numbers, strings and lists. A
`Request` is already valid: whoever builds one has checked each limit, and nothing below checks it
again.

    Request -> Engine.generate() -> StepOutput, StepOutput, ... StepOutput(finish_reason=...)

Each accepted request gets exactly one `StepOutput` with a `finish_reason`, whatever happens.
"""

from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from thirdeye.server.engine.interface.adapters import AdapterReport, AdapterSource
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.step_record import StepRecord
from thirdeye.server.engine.interface.trace import Trace, TraceRequest


class FinishReason(StrEnum):
    STOP = "stop"  # end-of-sequence token, one of stop_token_ids, or the end of the grammar
    LENGTH = "length"  # max_tokens, or the model's context is full
    ABORT = "abort"  # the caller asked, or left
    ERROR = "error"  # the engine failed; `StepOutput.error` says how


class ErrorCode(StrEnum):
    """Which ERROR it was, where the caller can do something about it."""

    REQUEST_TOO_LARGE = "request_too_large"  # refused at admission: it could never be computed
    QUEUE_TIMEOUT = "queue_timeout"  # waited too long; nothing was computed
    REQUEST_TIMEOUT = "request_timeout"  # took too long, from its arrival on
    INVALID_GRAMMAR = "invalid_schema"  # the answer could not be kept to it
    OUT_OF_MEMORY = "out_of_memory"  # of a step: the requests that shared it
    ADAPTER_GONE = "model_not_found"  # its adapter was unloaded before it came here


class SamplingParams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is chosen.

    Order, as in vLLM: grammar, min_tokens, logit_bias -> penalties -> (argmax if temperature is 0)
    -> temperature -> min_p -> top_k, top_p -> draw. Reported logprobs are log-softmax of the raw
    logits.
    """

    max_tokens: int
    min_tokens: int = 0  # end-of-sequence and stop ids are masked until this many are generated
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0  # 0 is greedy
    top_k: int = 0  # 0 is off
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0  # over prompt and output; the two above over output alone
    penalty_window: int = -1  # the last tokens that these three see; -1: all
    logit_bias: dict[int, float] = {}
    seed: int = 0  # always given: noise is a function of (seed, position)
    stop_token_ids: list[int] = []  # without end-of-sequence, which the engine adds by itself
    ignore_eos: bool = False
    logprobs: int | None = None  # None: none; k: the chosen token's and the k likeliest
    prompt_logprobs: int | None = None  # the same for every prompt token but the first

    @property
    def is_penalized(self) -> bool:
        """Whether the tokens so far change what comes next."""
        has_penalty = self.frequency_penalty or self.presence_penalty
        return bool(has_penalty or self.repetition_penalty != 1)


class Thinking(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an answer thinks before it answers, where that decides which tokens may come."""

    open_ids: list[int] = []  # what begins it; none: the prompt's last tokens have
    close_ids: list[int]  # what ends it
    call_id: int | None = None  # a token that ends it too, and is the first of the answer
    max_tokens: int | None = None  # between the two; then it is closed. None: any number
    min_tokens: int = 0  # `SamplingParams.min_tokens`, but of the answer behind it


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One completion to make. `max_tokens` 0 only scores the prompt (with `prompt_logprobs`)."""

    request_id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams
    # The answer's first tokens, drawn elsewhere: it goes on behind them as if they were its own.
    # They count for limits and penalties, and are not told again. Fewer than `max_tokens`.
    answer_token_ids: list[int] = []
    priority: int = 0  # lower goes first
    cache_salt: str = ""  # prefixes are shared only between equal salts
    adapter: int = 0  # its number: the low-rank adapter that it is answered with; 0: none
    tenant: str = ""  # on whose behalf: within a priority, tenants get equal shares
    return_progress: bool = False  # an output for each chunk of the prompt, too
    is_embedding: bool = False  # with `max_tokens` 0: the last output has the prompt's embedding
    grammar: str = ""  # llguidance's serialized form, already checked; the answer follows it
    thinking: Thinking | None = None  # in front of all that the grammar says

    @property
    def is_constrained(self) -> bool:
        """Whether its tokens are chosen under a mask."""
        return bool(self.grammar) or self.thinking is not None

    @property
    def prefix_salt(self) -> str:
        """Keys and values of one adapter are neither another's nor the base's. No salt of a
        request without one begins so: names of callers hold no NUL."""
        return f"\0{self.adapter}\0{self.cache_salt}" if self.adapter else self.cache_salt


class TokenLogprobs(Struct, frozen=True, array_like=True):
    """One position: its token, the token's logprob and rank (1 is likeliest), and the likeliest."""

    token_id: int
    logprob: float
    rank: int
    top: list[tuple[int, float]]  # likeliest first; may or may not contain token_id


class Timings(Struct, frozen=True, array_like=True):
    """Where the time of one request went, in milliseconds, sent with its last output."""

    queue_ms: float  # arrival to first scheduled
    prefill_ms: float  # first scheduled to first token
    decode_ms: float  # first token to last
    total_ms: float
    num_steps: int
    num_preemptions: int = 0
    itl_max_ms: float = 0.0  # the longest gap between two outputs
    batch_mean: float = 0.0  # requests in its steps, itself included: 1 is alone
    batch_max: int = 0


class PromptProgress(Struct, frozen=True, array_like=True):
    """How far a prompt is that takes more than one step."""

    num_prompt_tokens: int
    num_cached_tokens: int
    num_computed_tokens: int  # with those that were cached
    elapsed_ms: float  # since it was first scheduled


class StepOutput(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one step added to one request.

    `token_ids` are new; the end-of-sequence or stop token that ends a request is among them.
    `logprobs` has one entry a token when asked for. `prompt_logprobs` comes once, with the first
    output.
    """

    request_id: str
    token_ids: list[int] = []
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs] | None = None  # for prompt tokens 1.., token 0 has none
    finish_reason: FinishReason | None = None
    # The id of stop_token_ids that ended it, if one did (not for EOS).
    stop_token_id: int | None = None
    progress: PromptProgress | None = None  # of a prompt that is not computed yet, and nothing else
    embedding: list[float] | None = None  # [hidden_size], of length 1; see pooling.py
    num_cached_tokens: int = 0  # prompt tokens found in the prefix cache, on every output
    timings: Timings | None = None  # with finish_reason
    error: str | None = None  # with FinishReason.ERROR: fit for a client's eyes
    error_code: ErrorCode | None = None  # with FinishReason.ERROR, if it is one of these


OnOutput = Callable[[StepOutput], bool]  # whether that was all to be done; see `Engine.generate`


class EngineInfo(Struct, frozen=True, kw_only=True):
    """What the engine turned out to be once loaded: the facts of the ready line."""

    num_parameters: int
    max_model_len: int
    vocab_size: int
    device: str
    dtype: str
    num_blocks: int
    block_size: int
    max_num_seqs: int
    windows: tuple[int, ...] = (
        0,
    )  # of each group of layers that has blocks of its own; 0: it sees all
    num_states: int = 0  # of a model whose layers keep some: of sequences, and snapshots
    state_bytes: int = 0  # of one of them, on all ranks together
    numerics: str = ""  # all else that decides bits: library, kernels, threads, instruction set
    memory: str = ""  # where a GPU's goes, as measured at start
    num_ranks: int = 1  # processes that compute the model together
    isa: str = ""  # what our kernels are compiled for, which decides no bit; empty: none
    has_kernels_of_wheel: bool = False  # else they were compiled on this machine
    missed_paths: list[str] = []  # fast paths that do not apply, with the reason
    max_adapters: int = 0  # that can be loaded at once
    max_adapter_bytes: int = 0  # of all of them together
    draft: str = ""  # the model that guesses, and its size; empty: none does

    @property
    def num_whole_blocks(self) -> int:
        """Of all layers together: as many tokens fit as so many blocks have, however short the
        texts; of texts that are longer than windows more do."""
        return self.num_blocks // len(self.windows)


class EngineDead(Exception):
    """The engine takes no request now (see `Engine.restart_eta`); the text says why."""


class Engine(Protocol):
    """Tokens to tokens. Three implementations (process, thread, fake), one test suite over all."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def is_alive(self) -> bool:
        """Whether a request handed in now would be worked on."""

    @property
    def restart_eta(self) -> float | None:
        """Seconds until a dead engine should be back; None if it is not coming, or is alive."""

    def generate(
        self, request: Request, on_output: OnOutput | None = None
    ) -> AsyncIterator[StepOutput]:
        """Outputs of one request, the last with a finish_reason.

        Raises `EngineDead` if the engine takes no request any more. Leaving the iterator early
        (break, cancellation, `aclose`) aborts the request: its blocks are free within one step.

        `on_output` is a way past the iterator, which costs a wake-up of a task for each output:
        it is asked first, in the call that receives a step for all requests, about each output but
        the last, while the iterator is being waited for (so everything before has been seen). What
        it consumes does not come out of the iterator; what it raises does. It must not wait.
        """

    def abort(self, request_id: str) -> None:
        """End a request: its iterator yields a last output with ABORT. Unknown ids are ignored."""

    def stats(self) -> EngineStats: ...

    def reset_prefix_cache(self) -> None:
        """Forget every cached prefix that no running request holds: a request that is handed in
        later computes what it would have found there. A dead engine has none."""

    async def load_adapter(self, source: AdapterSource) -> AdapterReport:
        """Load it while requests run; afterwards requests may have it. Raises `EngineDead`."""

    def unload_adapter(self, number: int) -> None:
        """Free it when the last request that has it has ended. One that comes later may be told
        that it is gone. Unknown numbers are ignored."""

    def stalled_seconds(self) -> float:
        """How long a request has waited for the engine's next step; 0 if none waits."""

    def watch(self, since: int = 0) -> AsyncIterator[StepRecord]:
        """Steps from number `since` on, those of the latest that are still remembered, then each
        as it happens. Ends with the engine. A reader that falls far behind misses some: a gap.

        Nobody watching costs nothing. Raises `EngineDead` if there is no engine any more.
        """

    def inspect(self, request: TraceRequest) -> AsyncIterator[Trace]:
        """Look inside: a trace of each layer asked for, then a last one, `is_last`.

        Worked on between steps, in pieces that cost less than one. Leaving the iterator early ends
        it. Raises `EngineDead` if the engine takes no request any more.
        """

    async def close(self) -> None:
        """Stop; requests still running end with ABORT. Safe to call twice."""

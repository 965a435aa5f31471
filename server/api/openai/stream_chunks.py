"""What the answers of chat and completions have in common: a head, choices, usage, timings.

    a chunk of a stream    {head, "choices": [what is new of one choice], extras, usage, timings}
    a whole answer         {head, "choices": [all of each choice], usage, timings, extras}

Most chunks say nothing but a few characters. Their bytes are spliced from one that was encoded in
the usual way (`TextSplicer`), since this runs for every token.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Generic, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from thirdeye.server.api.generation.answer_format import encode
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.http.json_response import Count
from thirdeye.server.api.http.sse import data_frame
from thirdeye.server.api.openai.logprob_lists import PromptLogprobs
from thirdeye.server.api.requests.generation_fields import StreamOptions
from thirdeye.server.api.state.answer_parts import (
    AnswerTimings,
    TokenUsage,
    WrittenReceipt,
)
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.engine.interface.types import PromptProgress

# Why a choice ended, as OpenAI says it.
_FINISH_WORDS = ["stop", "length", "tool_calls", "function_call"]
FinishWord = Annotated[str, Meta(extra_json_schema={"enum": _FINISH_WORDS})]
Choice = TypeVar("Choice")
Value = TypeVar("Value")

MARK = "\N{OBJECT REPLACEMENT CHARACTER}"


def or_unset(value: Value | None) -> Value | UnsetType:
    """For a key that is left out where there is nothing to say."""
    return UNSET if value is None else value


def or_none(value: Value | UnsetType) -> Value | None:
    """For a key that is there in any case."""
    return None if value is UNSET else value


class Head(Struct, kw_only=True):
    """The keys every answer and every chunk of it starts with."""

    id: str
    object: str
    created: Count  # unix seconds
    model: str
    system_fingerprint: str
    service_tier: str | UnsetType = UNSET


class ShownProgress(Struct):
    """llama.cpp's: how far a prompt is, before its first token."""

    index: Count
    total: Count
    cache: Count
    processed: Count
    time_ms: float


class StreamChunk(Struct, Generic[Choice], kw_only=True):
    """What is new, behind the head. The writer adds what is last: usage, timings and receipt."""

    choices: list[Choice]
    prompt_token_ids: list[Count] | UnsetType = UNSET
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET  # of a whole answer alone
    prompt_progress: ShownProgress | UnsetType = UNSET
    usage: TokenUsage | UnsetType | None = UNSET
    timings: AnswerTimings | UnsetType = UNSET
    receipt: WrittenReceipt | UnsetType = UNSET


class WholeCompletion(Head, Generic[Choice], kw_only=True):
    choices: list[Choice]
    usage: TokenUsage
    timings: AnswerTimings
    receipt: WrittenReceipt | UnsetType = UNSET


def head_of(generation: Generation, kind: str, fingerprint: str, tier: str | None = None) -> Head:
    return Head(
        id=generation.id,
        object=kind,
        created=generation.created,
        model=generation.model,
        system_fingerprint=generation.fingerprint(fingerprint),
        service_tier=or_unset(tier),
    )


def progress_of(index: int, progress: PromptProgress) -> ShownProgress:
    return ShownProgress(
        index,
        total=progress.num_prompt_tokens,
        cache=progress.num_cached_tokens,
        processed=progress.num_computed_tokens,
        time_ms=round(progress.elapsed_ms, 1),
    )


class FrameWriter:
    """Chunks to frames: the head, which never changes, is encoded once."""

    def __init__(self, head: Head, options: StreamOptions | None, tally: Tally) -> None:
        options = options or StreamOptions()
        self._head = encode(head)[:-1] + b","
        self._tally = tally
        self._has_usage_chunk = options.include_usage
        self.counts_in_each = options.continuous_usage_stats

    def frame(self, chunk: StreamChunk[Choice]) -> bytes:
        """Timings and receipt come with the last one: with the usage chunk, if that follows."""
        if self.counts_in_each:
            chunk.usage = self._tally.usage()
        elif self._has_usage_chunk:
            chunk.usage = None
        is_last = self._tally.is_finished and not self._has_usage_chunk
        return self._ended(chunk) if is_last else self._encoded(chunk)

    def usage_frame(self) -> Iterator[bytes]:
        """The chunk without choices that ends a stream with `include_usage`."""
        if self._has_usage_chunk:
            yield self._ended(StreamChunk[object](choices=[], usage=self._tally.usage()))

    def _ended(self, chunk: StreamChunk[Choice]) -> bytes:
        chunk.timings = or_unset(self._tally.timings())
        chunk.receipt = or_unset(self._tally.receipt())
        return self._encoded(chunk)

    def _encoded(self, chunk: StreamChunk[Choice]) -> bytes:
        return data_frame(self._head + encode(chunk)[1:])


class TextSplicer:
    """The frames of choices that go on with text and nothing else: cut from one with a mark."""

    def __init__(self) -> None:
        self._ends: dict[int, tuple[bytes, bytes]] = {}  # what stands before and behind the text

    def frame(self, index: int, text: str, frame_of: Callable[[int, str], bytes]) -> bytes:
        """`frame_of` encodes the frame of a choice and its text; nothing else may vary. It is not
        kept: whose method it is keeps this, and both would wait for the garbage collector."""
        ends = self._ends.get(index)
        if ends is None:
            before, _, after = frame_of(index, MARK).rpartition(encode(MARK))
            ends = self._ends[index] = before, after
        return ends[0] + encode(text) + ends[1]

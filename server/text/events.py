"""What the text layer hands to the API: text that may be sent, and the tokens it came from.

Structs, since one is made for every token: they cost a fifth of a frozen dataclass.
"""

from msgspec import Struct

from thirdeye.server.engine.interface.types import (
    ErrorCode,
    FinishReason,
    PromptProgress,
    Timings,
    TokenLogprobs,
)


class TextToken(Struct, frozen=True):
    """One generated token. `raw` is its exact bytes; None when it is hidden from the text (EOS,
    stop id)."""

    token_id: int
    raw: bytes | None
    logprobs: TokenLogprobs | None = None
    is_thought: bool = False  # of the thinking, or of a mark around it


class Thought(Struct, frozen=True):
    """New text of what the model thinks before it answers."""

    text: str


class ToolCallDelta(Struct, frozen=True):
    """News of one tool call: first its name, once and without arguments, then pieces of these."""

    index: int  # of the call, within the choice
    name: str | None = None
    arguments: str = ""  # joined over the deltas: the arguments' JSON, as the model wrote it
    call_id: str = ""  # with the name: where the family's form demands one


Piece = str | Thought | ToolCallDelta  # content, or one of the others


class TextEvent(Struct, frozen=True):
    """New text of one choice, final the moment it is sent: nothing here is ever taken back.

    `tokens` are exactly those whose text this event releases (a token held back with its text comes
    with the event that releases it; the token that ends the answer comes with the last event).
    The last event of a choice, and only it, has a `finish_reason`.
    """

    text: str
    tool_calls: list[ToolCallDelta] = []  # they follow the text
    tokens: list[TextToken] = []
    thought: str = ""  # what the model thinks: it stands before the text
    prompt_logprobs: list[TokenLogprobs] | None = None  # once, on the first event, when asked for
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0  # sampled so far, the end-of-sequence token included
    num_thought_tokens: int = 0  # of these, the thinking's
    finish_reason: FinishReason | None = None
    progress: PromptProgress | None = None  # of the prompt, before its first token; nothing else
    embedding: list[float] | None = None  # on the last event of a request for one
    stop_reason: str | int | None = None  # the stop string or stop token id that matched
    ended_in_tool_calls: bool = False  # it ended by itself, and there is at least one call
    timings: Timings | None = None
    error: str | None = None
    error_code: ErrorCode | None = None

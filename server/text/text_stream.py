"""One answer's way from token ids to text: bytes -> UTF-8 -> its parts, stop strings -> events.

    StepOutput -> token bytes -> IncrementalDecoder -> [AnswerReader] -> StopMatcher -> TextEvent
                                                             `-> thoughts, calls -----------^

`TextStream` does it without waiting for anything; `stream_text.py` drives an engine through it.

A token is listed once, in order, with the event that sends the last of its text. Characters are
counted for this: each token remembers how many must have been sent before it may be listed.

Stop strings are looked for in the content alone: they never cut a thought or a tool call, nor does
a call's frame hide one. `min_tokens` counts from the end of the thinking.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from thirdeye.server.engine.interface.types import FinishReason, StepOutput, TokenLogprobs
from thirdeye.server.text.answer_reader import make_reader
from thirdeye.server.text.events import Piece, TextEvent, TextToken, Thought, ToolCallDelta
from thirdeye.server.text.incremental_decoder import IncrementalDecoder
from thirdeye.server.text.reasoning.reasoning_form import PromptState, ReasoningForm
from thirdeye.server.text.stop_strings import StopMatcher
from thirdeye.server.text.tokenizer import TokenizerLike
from thirdeye.server.text.tools.families.call_form import CallForm
from thirdeye.server.text.tools.families.typed_values import Schema
from thirdeye.server.text.tools.form import ANSWER_MARKUP, TAGS


@dataclass(frozen=True, slots=True)
class TextOptions:
    """What a caller may ask of the text, already checked."""

    stop: list[str] = field(default_factory=list)
    include_stop: bool = False  # the stop string that matched is part of the text
    skip_special_tokens: bool = True  # False: they show as their literals
    min_tokens: int = 0  # a stop string must not be complete within this many tokens
    max_seconds: float = 0.0  # of decoding after the first token; 0 is no limit
    parse_tool_calls: bool = False  # False: their tags are plain text
    call_form: CallForm | None = None  # of tool calls; None: Hermes'
    # Of each tool, by name: the types of its arguments.
    parameters: Mapping[str, Schema] = field(default_factory=dict)
    reasoning: ReasoningForm | None = None  # None: the marks of thinking are plain text
    prompt_state: PromptState = PromptState.UNDECIDED  # with `reasoning`
    call_id: int | None = None  # the token that begins a call, also where the thinking is open
    shows_thoughts: bool = True  # False: they are read, counted and left out
    list_tokens: bool = True  # False: nobody asks for `TextEvent.tokens`, and they stay empty


class TextStream:
    """Text of one answer. Feed it every output of the engine, in order, until it `is_finished`."""

    def __init__(
        self,
        tokenizer: TokenizerLike,
        options: TextOptions,
        hidden_ids: frozenset[int] = frozenset(),
    ) -> None:
        """`hidden_ids` end the answer and are never text: end-of-sequence and stop token ids."""
        special = tokenizer.special_tokens if options.skip_special_tokens else {}
        is_read = options.reasoning is not None or options.parse_tool_calls
        marks = ANSWER_MARKUP if is_read else TAGS
        self._hidden_ids = hidden_ids.union(i for text, i in special.items() if text not in marks)
        self._tokenizer = tokenizer
        self._min_tokens = options.min_tokens
        self._decoder = IncrementalDecoder()
        self._reader = make_reader(
            options.reasoning,
            options.prompt_state,
            parse_tool_calls=options.parse_tool_calls,
            form=options.call_form,
            parameters=options.parameters,
        )
        self._stops = StopMatcher(options.stop, options.include_stop)
        self._shows_thoughts = options.shows_thoughts
        self._call_id = options.call_id
        self._thought = ""  # of the next event
        self._text = ""  # of the next event
        self._tool_calls: list[ToolCallDelta] = []  # of the next event
        # (characters to be sent first, token)
        self._unlisted: deque[tuple[int, TextToken]] = deque()
        self._num_decoded = 0  # characters
        self._num_generated = 0  # tokens
        self._num_thought = 0  # of them
        self._has_content = False
        self._prompt_logprobs: list[TokenLogprobs] | None = None
        self._lists_tokens = options.list_tokens
        self._can_be_plain = not (options.list_tokens or options.stop)
        self._matched: str | None = None
        self.is_finished = False

    def begin_with(self, token_ids: Sequence[int]) -> None:
        """Tokens that were drawn elsewhere, in front of the engine's first output: they are text
        like others and are counted, and are not listed. Their text comes with the next event."""
        lists_tokens, self._lists_tokens = self._lists_tokens, False
        for token_id in token_ids:
            if self._matched is None:
                self._take(token_id, None)
        self._lists_tokens = lists_tokens

    def feed(self, output: StepOutput) -> TextEvent | None:
        """What this output lets us send; None if all of it is held back.

        Tokens behind the one that completes a stop string are dropped, as if never sampled.
        """
        assert not self.is_finished, "an answer ends once"
        if output.progress is not None:
            return TextEvent("", progress=output.progress)
        if output.prompt_logprobs is not None:
            self._prompt_logprobs = output.prompt_logprobs
        if self._is_plain and output.finish_reason is None:
            return self._plain_event(output)
        if self._has_matched:  # in what it began with
            return self._event(output, FinishReason.STOP)
        for i, token_id in enumerate(output.token_ids):
            self._take(token_id, output.logprobs[i] if output.logprobs else None)
            if self._matched is not None:
                return self._event(output, FinishReason.STOP)
        if output.finish_reason is None:
            return self._event(output, None)
        self._flush()
        return self._event(output, FinishReason.STOP if self._matched else output.finish_reason)

    @property
    def _has_matched(self) -> bool:
        return self._matched is not None

    @property
    def _is_plain(self) -> bool:
        """Whether a token is nothing but its text from here on."""
        is_read = self._reader is None or self._reader.is_over
        return self._can_be_plain and is_read and self._prompt_logprobs is None

    def _plain_event(self, output: StepOutput) -> TextEvent | None:
        """`feed` where a token is nothing but its text, as most are."""
        for token_id in output.token_ids:
            if token_id not in self._hidden_ids:
                self._text += self._decoder.feed(self._tokenizer.token_bytes(token_id))
        self._num_generated += len(output.token_ids)
        text, self._text = self._text, ""
        if not text and self._decoder.is_pending:
            return None
        return TextEvent(
            text,
            num_cached_tokens=output.num_cached_tokens,
            num_generated_tokens=self._num_generated,
            num_thought_tokens=self._num_thought,
        )

    def _take(self, token_id: int, logprobs: TokenLogprobs | None) -> None:
        raw = None if token_id in self._hidden_ids else self._tokenizer.token_bytes(token_id)
        self._num_generated += 1
        text = self._decoder.feed(raw or b"")
        self._num_decoded += len(text)
        if self._reader is not None and token_id == self._call_id:
            self._route(self._reader.end_thinking())
        was_thinking = self._is_thinking
        pieces = self._read(text)
        is_thought = was_thinking or self._is_thinking
        if is_thought and not was_thinking and not self._has_content:
            self._begin_thinking()
        self._num_thought += is_thought
        if self._lists_tokens:
            # A token that ends inside a character waits for that character too.
            wait_for = self._num_decoded + (1 if self._decoder.is_pending else 0)
            token = TextToken(token_id, raw, logprobs, is_thought)
            self._unlisted.append((wait_for, token))
        self._route(pieces)

    def _begin_thinking(self) -> None:
        """All tokens so far spelled the mark that is now complete."""
        self._num_thought = self._num_generated - 1
        for i, (wait_for, token) in enumerate(self._unlisted):
            thought = msgspec.structs.replace(token, is_thought=True)
            self._unlisted[i] = (wait_for, thought)

    def _flush(self) -> None:
        self._route(self._read(self._decoder.flush()))
        if self._matched is None and self._reader is not None:
            self._route(self._reader.flush())
        if self._matched is None:
            self._text += self._stops.flush()

    @property
    def _is_thinking(self) -> bool:
        return self._reader is not None and self._reader.is_thinking

    def _read(self, text: str) -> Sequence[Piece]:
        return [text] if self._reader is None else self._reader.feed(text)

    def _route(self, pieces: Sequence[Piece]) -> None:
        """Content goes on to the stop strings; a call ends it, so what they hold back is free."""
        for piece in pieces:
            if isinstance(piece, str):
                self._search(piece)
                if self._matched is not None:
                    return
            elif isinstance(piece, Thought):
                self._thought += piece.text if self._shows_thoughts else ""
            else:
                self._text += self._stops.flush()
                self._tool_calls.append(piece)

    def _search(self, text: str) -> None:
        self._has_content = self._has_content or bool(text)
        num_answered = self._num_generated - self._num_thought
        sent, self._matched = self._stops.feed(text, search=num_answered > self._min_tokens)
        self._text += sent

    def _event(self, output: StepOutput, finish_reason: FinishReason | None) -> TextEvent | None:
        self.is_finished = finish_reason is not None
        text, self._text = self._text, ""
        thought, self._thought = self._thought, ""
        tool_calls, self._tool_calls = self._tool_calls, []
        tokens = self._list_tokens()
        if not (text or thought or tool_calls or tokens or self.is_finished):
            return None
        prompt_logprobs, self._prompt_logprobs = self._prompt_logprobs, None
        stop_reason = self._matched or output.stop_token_id
        has_calls = self._reader is not None and self._reader.num_calls > 0
        return TextEvent(
            text=text,
            thought=thought,
            tool_calls=tool_calls,
            tokens=tokens,
            prompt_logprobs=prompt_logprobs,
            embedding=output.embedding,
            num_cached_tokens=output.num_cached_tokens,
            num_generated_tokens=self._num_generated,
            num_thought_tokens=self._num_thought,
            finish_reason=finish_reason,
            stop_reason=stop_reason,
            ended_in_tool_calls=(
                has_calls and finish_reason is FinishReason.STOP and stop_reason is None
            ),
            timings=output.timings,
            error=None if self._matched else output.error,
            error_code=None if self._matched else output.error_code,
        )

    @property
    def _num_sent(self) -> int:
        """Characters that are out, or will never be."""
        held_by_reader = self._reader.num_held if self._reader is not None else 0
        return self._num_decoded - held_by_reader - self._stops.num_held

    def _list_tokens(self) -> list[TextToken]:
        """Tokens whose text has been sent; all that are left when the answer is over."""
        tokens, num_sent = [], self._num_sent
        while self._unlisted and (self.is_finished or self._unlisted[0][0] <= num_sent):
            tokens.append(self._unlisted.popleft()[1])
        return tokens

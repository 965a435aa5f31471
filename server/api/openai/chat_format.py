"""A chat answer: one message for each choice, or deltas of it.

delta of a stream      role first, then thoughts, content, calls, then the empty one with the reason
message in one piece   all deltas of a choice, joined
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType, structs

from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.http.json_response import Count
from thirdeye.server.api.openai.logprob_lists import (
    ChatLogprobs,
    PromptLogprobs,
    chat_logprobs,
    prompt_logprobs,
)
from thirdeye.server.api.openai.schema import ChatRequest
from thirdeye.server.api.openai.stream_chunks import (
    FinishWord,
    FrameWriter,
    StreamChunk,
    TextSplicer,
    WholeCompletion,
    head_of,
    or_none,
    or_unset,
    progress_of,
)
from thirdeye.server.api.openai.tools.old_functions import with_tools
from thirdeye.server.api.openai.tools.tool_calls import (
    CallNews,
    FunctionNews,
    WholeCall,
    WholeCustomCall,
    WholeFunction,
    joined_calls,
    joined_function,
    news_of,
)
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.text.events import TextEvent, TextToken
from thirdeye.server.text.tools.definitions import ChoiceMode
from thirdeye.server.text.tools.text_inputs import InputReaders


class ChatDelta(Struct, kw_only=True):
    role: Literal["assistant"] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET  # the same: half of the clients read the one, half the other
    content: str | UnsetType | None = UNSET
    refusal: UnsetType | None = UNSET
    tool_calls: list[CallNews] | UnsetType = UNSET
    function_call: FunctionNews | UnsetType = UNSET


class ChatMessage(Struct, kw_only=True):
    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    refusal: None = None
    annotations: list[str] = []  # there never is one
    tool_calls: list[WholeCall | WholeCustomCall] | UnsetType = UNSET
    function_call: WholeFunction | UnsetType = UNSET


class ChatNews(Struct, kw_only=True):
    """What is new of one choice."""

    index: Count
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishWord | None = None
    stop_reason: str | int | UnsetType = UNSET
    token_ids: list[Count] | UnsetType = UNSET


class WholeChatChoice(Struct, kw_only=True):
    index: Count
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishWord
    stop_reason: str | int | UnsetType = UNSET
    token_ids: list[Count] | UnsetType = UNSET


class ChatCompletion(WholeCompletion[WholeChatChoice], kw_only=True):
    """vLLM's two keys are there though nobody asked: its clients read them."""

    object: Literal["chat.completion"]
    prompt_token_ids: list[Count] | None
    prompt_logprobs: PromptLogprobs | None


class ChatChunk(StreamChunk[ChatNews], kw_only=True):
    """What an event adds to the answer."""


class ChatFormat:
    """The `AnswerFormat` of one chat request."""

    def __init__(
        self, body: ChatRequest, generation: Generation, model: ServedModel, tally: Tally
    ) -> None:
        choice = with_tools(body).tool_choice
        self._choice_mode = choice.mode if choice else ChoiceMode.AUTO
        self._calls_function = bool(body.functions)  # and no tools: the older form
        custom = frozenset(tool.name for tool in body.tools if tool.text_input is not None)
        self._inputs = [InputReaders(custom) for _ in generation.requests]
        self._with_logprobs = body.logprobs
        self._with_thought_logprobs = body.include_reasoning_logprobs
        self._as_ids = body.return_tokens_as_token_ids
        self._with_ids = body.return_token_ids
        self._with_prompt_logprobs = body.prompt_logprobs is not None
        self._lists_tokens = body.logprobs or body.return_token_ids
        self._generation = generation
        self._tokenizer = model.tokenizer
        self._tally = tally
        tier = "default" if body.service_tier else None
        self._head = head_of(generation, "chat.completion", model.fingerprint, tier)
        stream_head = structs.replace(self._head, object="chat.completion.chunk")
        self._writer = FrameWriter(stream_head, body.stream_options, tally)
        is_spliced = not (self._lists_tokens or self._writer.counts_in_each)
        self._splicer = TextSplicer() if is_spliced else None
        self._started: set[int] = set()

    def chunks(self, index: int, event: TextEvent) -> Iterator[ChatChunk]:
        """Role first, then content, then the empty delta that says why the choice ended."""
        if event.progress is not None:
            yield ChatChunk(choices=[], prompt_progress=progress_of(index, event.progress))
            return
        if index not in self._started:
            yield self._first_chunk(index, event)
        is_last = event.finish_reason is not None
        tokens, hidden = _split(event) if is_last else (event.tokens, [])
        deltas = list(self._deltas(event, self._inputs[index]))
        if not deltas and tokens and not is_last and self._lists_tokens:
            deltas = [ChatDelta()]
        for delta in deltas:
            yield ChatChunk(choices=[self._news(index, delta, tokens)])
            tokens = []  # they stand with the first
        if is_last:
            yield ChatChunk(choices=[self._news(index, ChatDelta(), hidden, event)])

    def frames(self, index: int, event: TextEvent) -> Iterable[bytes]:
        has_more = event.thought or event.tool_calls or event.finish_reason is not None
        is_only_text = event.text and not has_more
        if is_only_text and self._splicer is not None and index in self._started:
            return (self._splicer.frame(index, event.text, self._text_frame),)
        return map(self._writer.frame, self.chunks(index, event))

    def last_frames(self) -> Iterator[bytes]:
        return self._writer.usage_frame()

    def whole(self, chunks: Sequence[ChatChunk]) -> ChatCompletion:
        news: list[list[ChatNews]] = [[] for _ in self._generation.requests]
        for chunk in chunks:
            for choice in chunk.choices:
                news[choice.index].append(choice)
        first = chunks[0]  # has what is said once
        return ChatCompletion(
            **structs.asdict(self._head),
            choices=[self._joined(of_one) for of_one in news],
            usage=self._tally.usage(),
            timings=self._tally.final_timings(),
            receipt=or_unset(self._tally.receipt()),
            prompt_token_ids=or_none(first.prompt_token_ids),
            prompt_logprobs=or_none(first.prompt_logprobs),
        )

    def _joined(self, news: Sequence[ChatNews]) -> WholeChatChoice:
        last = news[-1]
        assert last.finish_reason is not None, "every choice has ended"
        ids = [token_id for part in news for token_id in part.token_ids or []]
        return WholeChatChoice(
            index=last.index,
            message=_message([part.delta for part in news]),
            logprobs=self._joined_logprobs(news),
            finish_reason=last.finish_reason,
            stop_reason=last.stop_reason,
            token_ids=ids if self._with_ids else UNSET,
        )

    def _joined_logprobs(self, news: Sequence[ChatNews]) -> ChatLogprobs | None:
        if not self._with_logprobs:
            return None
        return ChatLogprobs.joined(
            [part.logprobs for part in news if part.logprobs], self._with_thought_logprobs
        )

    def _deltas(self, event: TextEvent, inputs: InputReaders) -> Iterator[ChatDelta]:
        """What an event adds to the message: thoughts, text, the heads of calls and pieces of their
        arguments."""
        if event.thought:
            yield ChatDelta(reasoning_content=event.thought, reasoning=event.thought)
        if event.text:
            yield ChatDelta(content=event.text)
        for call in event.tool_calls:
            news = news_of(call, inputs)
            if self._calls_function:
                yield ChatDelta(function_call=news.function)
            else:
                yield ChatDelta(tool_calls=[news])

    def _first_chunk(self, index: int, event: TextEvent) -> ChatChunk:
        is_first, prompt = not self._started, self._generation.prompts[0]
        self._started.add(index)
        only_calls = self._choice_mode in (ChoiceMode.REQUIRED, ChoiceMode.NAMED)
        content = None if only_calls else ""
        delta = ChatDelta(role="assistant", content=content, refusal=None)
        chunk = ChatChunk(choices=[ChatNews(index=index, delta=delta)])
        if is_first and self._with_ids:
            chunk.prompt_token_ids = prompt
        if is_first and self._with_prompt_logprobs:
            scores = event.prompt_logprobs or []
            chunk.prompt_logprobs = prompt_logprobs(prompt, scores, self._tokenizer)
        return chunk

    def _text_frame(self, index: int, text: str) -> bytes:
        news = self._news(index, ChatDelta(content=text), [])
        return self._writer.frame(ChatChunk(choices=[news]))

    def _news(
        self,
        index: int,
        delta: ChatDelta,
        tokens: list[TextToken],
        end: TextEvent | None = None,
    ) -> ChatNews:
        return ChatNews(
            index=index,
            delta=delta,
            logprobs=self._logprobs(tokens) if tokens else None,
            finish_reason=self._finish_reason(end) if end else None,
            stop_reason=or_unset(end.stop_reason if end else None),
            token_ids=[token.token_id for token in tokens] if self._with_ids else UNSET,
        )

    def _finish_reason(self, end: TextEvent) -> str | None:
        """As OpenAI has it: a call that was asked for by name ends with `stop`."""
        if not end.ended_in_tool_calls or self._choice_mode is ChoiceMode.NAMED:
            return end.finish_reason
        return "function_call" if self._calls_function else "tool_calls"

    def _logprobs(self, tokens: list[TextToken]) -> ChatLogprobs | None:
        if not self._with_logprobs:
            return None
        scored = chat_logprobs(
            [token for token in tokens if not token.is_thought],
            self._tokenizer,
            as_ids=self._as_ids,
        )
        if self._with_thought_logprobs:
            thought = [token for token in tokens if token.is_thought]
            scored.reasoning_content = chat_logprobs(
                thought, self._tokenizer, as_ids=self._as_ids
            ).content
        return scored


def _message(deltas: Sequence[ChatDelta]) -> ChatMessage:
    """What deltas add up to. A message has content or calls: it is empty rather than nothing."""
    content = "".join(delta.content or "" for delta in deltas)
    thought = "".join(delta.reasoning_content or "" for delta in deltas)
    calls = joined_calls(call for delta in deltas for call in delta.tool_calls or [])
    function = joined_function(d.function_call for d in deltas if d.function_call is not UNSET)
    return ChatMessage(
        role="assistant",
        content=content if content or not (calls or function) else None,
        reasoning_content=thought or UNSET,
        reasoning=thought or UNSET,
        tool_calls=calls or UNSET,
        function_call=or_unset(function),
    )


def _split(event: TextEvent) -> tuple[list[TextToken], list[TextToken]]:
    """The last event's tokens: those of its text, and the hidden ones at its end (EOS, stop id)."""
    end = len(event.tokens) if event.text or event.thought or event.tool_calls else 0
    while end and event.tokens[end - 1].raw is None:
        end -= 1
    return event.tokens[:end], event.tokens[end:]

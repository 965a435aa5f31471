"""A completions answer: text for each choice, after the prompt's own text with `echo`.

What is new of a choice and all of it have the same keys: the whole is its pieces, put together.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType, structs

from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.http.json_response import Count
from thirdeye.server.api.openai.logprob_lists import (
    CompletionLogprobs,
    PromptLogprobs,
    ScoredToken,
    TextLogprobs,
    prompt_logprobs,
)
from thirdeye.server.api.openai.schema import CompletionRequest
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
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.engine.interface.types import TokenLogprobs
from thirdeye.server.text.detokenize import text_of, visible_bytes
from thirdeye.server.text.events import TextEvent


class TextChoice(Struct, kw_only=True):
    """A choice, or what is new of it. The prompt's keys are vLLM's, and of whole answers null where
    nobody asked for them."""

    index: Count
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: FinishWord | None = None
    stop_reason: str | int | UnsetType = UNSET
    # Of a stream: for each prompt's first sample.
    prompt_token_ids: list[Count] | UnsetType | None = UNSET
    token_ids: list[Count] | UnsetType = UNSET
    prompt_logprobs: PromptLogprobs | UnsetType | None = UNSET  # of a whole answer alone


class TextCompletion(WholeCompletion[TextChoice], kw_only=True):
    object: Literal["text_completion"]


class TextChunk(StreamChunk[TextChoice], kw_only=True):
    """What an event adds to the answer."""


class CompletionFormat:
    """The `AnswerFormat` of one completions request."""

    def __init__(
        self, body: CompletionRequest, generation: Generation, model: ServedModel, tally: Tally
    ) -> None:
        self._body = body
        self._generation = generation
        self._tokenizer = model.tokenizer
        self._tally = tally
        self._head = head_of(generation, "text_completion", model.fingerprint)
        self._writer = FrameWriter(self._head, body.stream_options, tally)
        self._lists_tokens = body.logprobs is not None or body.return_token_ids
        is_spliced = not (self._lists_tokens or self._writer.counts_in_each)
        self._splicer = TextSplicer() if is_spliced else None
        as_ids = body.return_tokens_as_token_ids
        self._logprobs = [
            CompletionLogprobs(model.tokenizer, as_ids=as_ids) for _ in generation.requests
        ]
        for lists in self._logprobs if body.logprobs is not None else ():
            lists.piece(self._unscored(body.answer_token_ids))  # offsets go on behind these
        self._started: set[int] = set()

    def chunks(self, index: int, event: TextEvent) -> Iterator[TextChunk]:
        """The prompt with `echo`, then text, and the reason with the last of it."""
        if event.progress is not None:
            yield TextChunk(choices=[], prompt_progress=progress_of(index, event.progress))
            return
        choice = TextChoice(index=index, text="")
        if index not in self._started:
            self._started.add(index)
            choice = self._first(index, event)
            if self._body.echo:
                scores_only = event.finish_reason and not event.tokens and not event.text
                if scores_only:
                    self._end(choice, event)
                yield TextChunk(choices=[choice])
                if scores_only:
                    return
                choice = TextChoice(index=index, text="")
        is_new = event.text or event.finish_reason or (event.tokens and self._lists_tokens)
        if is_new or choice.prompt_logprobs is not UNSET:
            yield TextChunk(choices=[self._grown(choice, event)])

    def frames(self, index: int, event: TextEvent) -> Iterable[bytes]:
        is_only_text = event.text and event.finish_reason is None
        if is_only_text and self._splicer is not None and index in self._started:
            return (self._splicer.frame(index, event.text, self._text_frame),)
        return map(self._writer.frame, self.chunks(index, event))

    def last_frames(self) -> Iterator[bytes]:
        return self._writer.usage_frame()

    def whole(self, chunks: Sequence[TextChunk]) -> TextCompletion:
        pieces: list[list[TextChoice]] = [[] for _ in self._generation.requests]
        for chunk in chunks:
            for choice in chunk.choices:
                pieces[choice.index].append(choice)
        choices = [self._joined(of_one) for of_one in pieces]
        for index, choice in enumerate(choices):  # what a stream says of the first sample alone
            choice.prompt_token_ids = choices[index - index % self._generation.n].prompt_token_ids
        return TextCompletion(
            **structs.asdict(self._head),
            choices=choices,
            usage=self._tally.usage(),
            timings=self._tally.final_timings(),
            receipt=or_unset(self._tally.receipt()),
        )

    def _joined(self, pieces: Sequence[TextChoice]) -> TextChoice:
        first, last = pieces[0], pieces[-1]
        ids = [token_id for piece in pieces for token_id in piece.token_ids or []]
        lists = [piece.logprobs for piece in pieces if piece.logprobs is not None]
        return TextChoice(
            index=first.index,
            text="".join(piece.text for piece in pieces),
            logprobs=TextLogprobs.joined(lists) if lists else None,
            finish_reason=last.finish_reason,
            stop_reason=last.stop_reason,
            prompt_token_ids=or_none(first.prompt_token_ids),
            token_ids=ids if self._body.return_token_ids else UNSET,
            prompt_logprobs=or_none(first.prompt_logprobs),
        )

    def _first(self, index: int, event: TextEvent) -> TextChoice:
        """A choice before its first token: what is asked of its prompt."""
        body, prompt = self._body, self._generation.prompts[index // self._generation.n]
        choice = TextChoice(index=index, text="")
        if body.return_token_ids and index % self._generation.n == 0:
            choice.prompt_token_ids = prompt
        if body.prompt_logprobs is not None:
            scores = _narrowed(event, body.prompt_logprobs)
            choice.prompt_logprobs = prompt_logprobs(prompt, scores, self._tokenizer)
        if body.echo:
            choice.text = text_of(prompt, self._tokenizer, body.skip_special_tokens)
            choice.logprobs = self._scores(index, self._scored_prompt(prompt, event))
            choice.token_ids = [] if body.return_token_ids else UNSET
        return choice

    def _grown(self, choice: TextChoice, event: TextEvent) -> TextChoice:
        """With the event's text and tokens, and the end if it is the last."""
        tokens = [(token.token_id, token.raw, token.logprobs) for token in event.tokens]
        choice.text = event.text
        choice.logprobs = self._scores(choice.index, tokens)
        if self._body.return_token_ids:
            choice.token_ids = [token.token_id for token in event.tokens]
        if event.finish_reason is not None:
            self._end(choice, event)
        return choice

    def _end(self, choice: TextChoice, event: TextEvent) -> None:
        choice.finish_reason = event.finish_reason
        choice.stop_reason = or_unset(event.stop_reason)

    def _text_frame(self, index: int, text: str) -> bytes:
        return self._writer.frame(TextChunk(choices=[TextChoice(index=index, text=text)]))

    def _scores(self, index: int, tokens: Sequence[ScoredToken]) -> TextLogprobs | None:
        return None if self._body.logprobs is None else self._logprobs[index].piece(tokens)

    def _scored_prompt(self, prompt: Sequence[int], event: TextEvent) -> list[ScoredToken]:
        """The prompt's tokens with their scores; the first has none."""
        if self._body.logprobs is None:
            return []
        scores = [None, *_narrowed(event, self._body.logprobs)]
        return [
            (token_id, raw, entry)
            for (token_id, raw, _), entry in zip(self._unscored(prompt), scores, strict=True)
        ]

    def _unscored(self, token_ids: Sequence[int]) -> list[ScoredToken]:
        skip = self._body.skip_special_tokens
        return [(i, visible_bytes(i, self._tokenizer, skip), None) for i in token_ids]


def _narrowed(event: TextEvent, k: int) -> list[TokenLogprobs]:
    """The prompt's scores with the k likeliest of each: the engine was asked once for the larger
    of two wishes."""
    return [
        TokenLogprobs(entry.token_id, entry.logprob, entry.rank, entry.top[:k])
        for entry in event.prompt_logprobs or []
    ]

"""`POST /v1/completions`: prompts in, their continuations out, whole or as chunks."""

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.answer_format import (
    ChunkWriter,
    Head,
    JsonObject,
    encode,
    optional,
    whole_answer,
)
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.context import Context
from thirdeye.server.api.generation.grammar_cache import Grammars
from thirdeye.server.api.generation.plan import AnswerFields, plan_answer
from thirdeye.server.api.generation.request_rules import (
    check_common,
    check_prompt_ids,
    constraint_of,
    encode_raw,
    refuse,
)
from thirdeye.server.api.generation.respond import respond
from thirdeye.server.api.generation.server_state import ServedModel
from thirdeye.server.api.generation.usage import Tally
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.openai.detokenize import text_of, visible_bytes
from thirdeye.server.api.openai.logprob_lists import CompletionLogprobs, prompt_logprobs
from thirdeye.server.api.openai.schema import CompletionRequest
from thirdeye.server.api.receipts.receipt_writer import ReceiptWriter
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.api.requests.unsupported_fields import REFUSED_IN_COMPLETIONS
from thirdeye.server.engine.interface.types import TokenLogprobs
from thirdeye.server.text.events import TextEvent, TextToken

ScoredToken = tuple[int, bytes | None, TokenLogprobs | None]


def completion_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/completions", include_in_schema=False)
    @router.post(
        "/v1/completions",
        **documented(
            "Completions", CompletionRequest, answer="Completion", streams="CompletionChunk"
        ),
    )
    async def create_completion(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, CompletionRequest, REFUSED_IN_COMPLETIONS)
        check_ceilings(context.config, body.stop, body.n)
        model.check_name(body.model)
        check_common(body, model)
        check_completion(body, model)
        generation = await plan_completion(
            body, model, context.grammars, lifetime_of(request).caller
        )
        tally = generation.tally(ReceiptWriter(generation, model) if body.receipt else None)
        shape = CompletionShape(body, generation, model, tally)
        return await respond(request, context, generation, shape, tally, stream=body.stream)

    return router


def check_completion(body: CompletionRequest, model: ServedModel) -> None:
    """Rules between the fields of completions."""
    if body.best_of is not None and body.best_of != body.n:
        raise refuse("best_of", f"must equal 'n' ({body.n}).", "unsupported_value")
    if body.max_tokens == 0 and not body.echo:
        raise refuse(
            "max_tokens", "must be at least 1 without 'echo', got 0.", "integer_below_min_value"
        )
    check_prompt_ids(body.prompt, model, "prompt")


async def plan_completion(
    body: CompletionRequest, model: ServedModel, grammars: Grammars, caller: str
) -> Generation:
    """The engine requests of a completion request. Raises `BadRequest` for what does not fit."""
    grammar = await grammars.of(*constraint_of(body))
    encoded = [
        await encode_raw(
            prompt,
            model,
            "prompt",
            add_special_tokens=body.add_special_tokens,
            is_bounded=body.truncate_prompt_tokens is None,
        )
        for prompt in body.prompt
    ]
    own = AnswerFields(
        id_prefix="cmpl-",
        prompt_param="prompt",
        max_tokens=body.max_tokens,
        max_tokens_param="max_tokens",
        logprobs=body.logprobs,
        prompt_logprobs=_prompt_logprobs(body),
        lists_tokens=body.logprobs is not None or body.return_token_ids or body.echo,
        grammar=grammar,
    )
    return plan_answer(body, own, encoded, model, caller)


def _prompt_logprobs(body: CompletionRequest) -> int | None:
    """What the engine must score of the prompt: for `echo` with logprobs, `prompt_logprobs`."""
    wanted = [body.prompt_logprobs, body.logprobs if body.echo else None]
    if body.max_tokens == 0:
        wanted.append(0)  # the engine takes a request without tokens only to score its prompt
    return max((k for k in wanted if k is not None), default=None)


class CompletionShape:
    """A completions answer: text for each choice, after the prompt's own text with `echo`."""

    def __init__(
        self, body: CompletionRequest, generation: Generation, model: ServedModel, tally: Tally
    ) -> None:
        self._body = body
        self._generation = generation
        self._tokenizer = model.tokenizer
        self._tally = tally
        self._head = Head.of(generation, "text_completion", model.fingerprint)
        self._has_only_text = body.logprobs is None and not body.return_token_ids
        template = (b'{"index":%d,"text":', b',"logprobs":null,"finish_reason":null}')
        self._writer = ChunkWriter(
            self._head, body.stream_options, tally, template if self._has_only_text else None
        )
        as_ids = body.return_tokens_as_token_ids
        self._logprobs = [
            CompletionLogprobs(model.tokenizer, as_ids=as_ids) for _ in generation.requests
        ]
        self._started: set[int] = set()
        self._events: list[list[TextEvent]] = [[] for _ in generation.requests]

    def chunks(self, index: int, event: TextEvent) -> Iterator[bytes]:
        if event.progress is not None:
            yield self._writer.progress_chunk(index, event.progress)
            return
        is_first = index not in self._started
        self._started.add(index)
        is_last = event.finish_reason is not None
        prompt_ids = self._prompt_ids(index) if is_first else None
        if is_first and self._body.echo:
            scores_only = is_last and not event.tokens and not event.text
            end = event if scores_only else None
            text, tokens = self._echo_text(index), self._echo_tokens(index, event)
            yield self._writer.chunk(self._choice(index, text, tokens, [], end, prompt_ids))
            if scores_only:
                return
            prompt_ids = None
        is_only_text = event.text and not is_last
        if is_only_text and (chunk := self._writer.text_chunk(index, event.text)):
            yield chunk
            return
        if event.text or is_last or (event.tokens and not self._has_only_text):
            ids = [token.token_id for token in event.tokens]
            end = event if is_last else None
            scored = [_scored(token) for token in event.tokens]
            yield self._writer.chunk(self._choice(index, event.text, scored, ids, end, prompt_ids))

    def last_chunks(self) -> Iterator[bytes]:
        return self._writer.usage_chunk()

    def _choice(
        self,
        index: int,
        text: str,
        tokens: list[ScoredToken],
        token_ids: list[int],
        end: TextEvent | None,
        prompt_ids: list[int] | None,
    ) -> bytes:
        parts = [b'{"index":%d,"text":' % index, encode(text), b',"logprobs":']
        parts.append(encode(self._piece(index, tokens)))
        parts.append(b',"finish_reason":' + encode(end.finish_reason if end else None))
        parts.append(optional(b"stop_reason", end.stop_reason if end else None))
        parts.append(optional(b"prompt_token_ids", prompt_ids))
        if self._body.return_token_ids:
            parts.append(optional(b"token_ids", token_ids))
        return b"".join([*parts, b"}"])

    def _piece(self, index: int, tokens: list[ScoredToken]) -> JsonObject | None:
        return self._logprobs[index].piece(tokens) if self._body.logprobs is not None else None

    def _prompt(self, index: int) -> list[int]:
        return self._generation.prompts[index // self._generation.n]

    def _prompt_ids(self, index: int) -> list[int] | None:
        """With `return_token_ids`, on the first sample of each prompt."""
        is_first_sample = index % self._generation.n == 0
        wanted = self._body.return_token_ids and is_first_sample
        return self._prompt(index) if wanted else None

    def _echo_text(self, index: int) -> str:
        return text_of(self._prompt(index), self._tokenizer, self._body.skip_special_tokens)

    def _echo_tokens(self, index: int, event: TextEvent) -> list[ScoredToken]:
        """The prompt's tokens with their scores; the first has none."""
        if self._body.logprobs is None:
            return []
        entries = [None, *(_narrow(e, self._body.logprobs) for e in event.prompt_logprobs or [])]
        skip = self._body.skip_special_tokens
        return [
            (token_id, visible_bytes(token_id, self._tokenizer, skip), entry)
            for token_id, entry in zip(self._prompt(index), entries, strict=True)
        ]

    def add(self, index: int, event: TextEvent) -> None:
        self._events[index].append(event)

    def whole(self) -> JsonObject:
        choices = [self._whole_choice(i, events) for i, events in enumerate(self._events)]
        return whole_answer(self._head, choices, self._tally)

    def _whole_choice(self, index: int, events: list[TextEvent]) -> JsonObject:
        tokens = [token for event in events for token in event.tokens]
        text = "".join(event.text for event in events)
        scored = [_scored(token) for token in tokens]
        if self._body.echo:
            text = self._echo_text(index) + text
            scored = self._echo_tokens(index, events[0]) + scored
        choice: JsonObject = {
            "index": index,
            "text": text,
            "logprobs": self._piece(index, scored),
            "finish_reason": events[-1].finish_reason,
        }
        if events[-1].stop_reason is not None:
            choice["stop_reason"] = events[-1].stop_reason
        if self._body.return_token_ids:
            choice["prompt_token_ids"] = self._prompt(index)
            choice["token_ids"] = [token.token_id for token in tokens]
        if self._body.prompt_logprobs is not None:
            choice["prompt_logprobs"] = self._whole_prompt_logprobs(index, events[0])
        return choice

    def _whole_prompt_logprobs(self, index: int, first: TextEvent) -> list[JsonObject | None]:
        k = self._body.prompt_logprobs or 0
        entries = [_narrow(entry, k) for entry in first.prompt_logprobs or []]
        return prompt_logprobs(self._prompt(index), entries, self._tokenizer)


def _scored(token: TextToken) -> ScoredToken:
    return token.token_id, token.raw, token.logprobs


def _narrow(entry: TokenLogprobs, k: int) -> TokenLogprobs:
    """The entry with its k likeliest: the engine was asked once for the larger of two wishes."""
    return TokenLogprobs(entry.token_id, entry.logprob, entry.rank, entry.top[:k])

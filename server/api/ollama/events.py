"""An answer as Ollama has it: lines of JSON with the next piece of it, the last one with what it
took; or one object, which is all pieces, joined.

A call comes in one piece, with its arguments as an object. One that the end of the answer cut has
none, and is left out: `done_reason` is `length` then.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import UNSET, DecodeError
from msgspec.json import Decoder

from thirdeye.server.api.generation.answer_format import JsonObject, encode
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.http.documented import NDJSON
from thirdeye.server.api.http.error_envelope import ollama_error
from thirdeye.server.api.http.sse import Framing
from thirdeye.server.api.ollama.answers import (
    AnswerPiece,
    OllamaAnswer,
    OllamaCalled,
    OllamaToolCall,
    Shape,
    nanoseconds,
    rfc3339,
)
from thirdeye.server.api.openai.logprob_lists import ChosenToken, chat_logprobs
from thirdeye.server.api.openai.tools.tool_calls import new_call_id
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.errors import ApiError
from thirdeye.server.text.events import TextEvent

decode = Decoder(JsonObject).decode


class CallInProgress:
    """A call whose arguments have not all come."""

    def __init__(self, index: int, name: str, call_id: str) -> None:
        self._index, self._name = index, name
        self._id = call_id or new_call_id()
        self._arguments: list[str] = []

    def add(self, arguments: str) -> None:
        self._arguments.append(arguments)

    def whole(self) -> Iterator[OllamaToolCall]:
        """The call; none if its arguments were cut."""
        try:
            arguments = decode("".join(self._arguments))
        except DecodeError:
            return
        yield OllamaToolCall(self._id, OllamaCalled(self._index, self._name, arguments))


class OllamaFormat:
    """The `AnswerFormat` of one request."""

    def __init__(
        self,
        shape: Shape,
        asked: str | None,
        generation: Generation,
        model: ServedModel,
        tally: Tally,
        *,
        with_logprobs: bool,
    ) -> None:
        """`asked`: the model's name in the request, which an answer repeats."""
        self._shape = shape
        self._head = {"model": asked or generation.model, "created_at": rfc3339(generation.created)}
        self._tokenizer = model.tokenizer
        self._tally = tally
        self._with_logprobs = with_logprobs
        self._call: CallInProgress | None = None

    def chunks(self, index: int, event: TextEvent) -> Iterator[AnswerPiece]:
        assert index == 0, "a request has one answer"
        scores = self._scores(event)
        if event.text or event.thought or scores:
            yield AnswerPiece(text=event.text, thought=event.thought, scores=scores)
        if calls := [*self._whole_calls(event)]:
            yield AnswerPiece(calls=calls)
        if event.finish_reason is not None:
            yield AnswerPiece(ending={"done_reason": event.finish_reason} | spent(self._tally))

    def frames(self, index: int, event: TextEvent) -> Iterable[bytes]:
        return map(self._line, self.chunks(index, event))

    def last_frames(self) -> Iterable[bytes]:
        return ()

    def whole(self, chunks: Sequence[AnswerPiece]) -> OllamaAnswer:
        joined = AnswerPiece(
            text="".join(piece.text for piece in chunks),
            thought="".join(piece.thought for piece in chunks),
            calls=[call for piece in chunks for call in piece.calls],
            scores=[token for piece in chunks for token in piece.scores],
            ending=chunks[-1].ending,
        )
        return self._answer(joined)

    @property
    def framing(self) -> Framing:
        """A silent stream is kept open by lines that add nothing."""
        return Framing(
            error=error_line, keepalive=self._line(AnswerPiece()), end=b"", media_type=NDJSON
        )

    def _line(self, piece: AnswerPiece) -> bytes:
        return encode(self._answer(piece)) + b"\n"

    def _answer(self, piece: AnswerPiece) -> OllamaAnswer:
        scores = piece.scores or UNSET
        about = {**self._head, "done": bool(piece.ending), **piece.ending, "logprobs": scores}
        return self._shape(piece, **about)

    def _whole_calls(self, event: TextEvent) -> Iterator[OllamaToolCall]:
        """A call is whole when another begins, or the answer ends."""
        for delta in event.tool_calls:
            if delta.name is not None:
                yield from self._end_of_call()
                self._call = CallInProgress(delta.index, delta.name, delta.call_id)
            assert self._call is not None, "a call begins with its name"
            self._call.add(delta.arguments)
        if event.finish_reason is not None:
            yield from self._end_of_call()

    def _end_of_call(self) -> Iterator[OllamaToolCall]:
        if self._call is not None:
            yield from self._call.whole()
            self._call = None

    def _scores(self, event: TextEvent) -> list[ChosenToken]:
        if not self._with_logprobs:
            return []
        shown = [token for token in event.tokens if not token.is_thought]
        return chat_logprobs(shown, self._tokenizer).content


def spent(tally: Tally) -> JsonObject:
    """What an answer took. The model is there before a request comes: loading takes nothing."""
    timings = tally.final_timings()
    return {
        "total_duration": nanoseconds(timings.total_ms),
        "load_duration": 0,
        "prompt_eval_count": tally.num_prompt_tokens,
        "prompt_eval_duration": nanoseconds(timings.prompt_ms),
        "eval_count": tally.num_generated_tokens,
        "eval_duration": nanoseconds(timings.predicted_ms),
        "timings": timings,
    }


def error_line(error: ApiError) -> bytes:
    return encode(ollama_error(error)) + b"\n"

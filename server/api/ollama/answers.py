"""What Ollama's answers hold: structs, which a line of a stream and a whole answer share.

{"model", "created_at", "message": {"role", "content", "thinking", "tool_calls"}, "done": false}
{"model", "created_at", "response", "thinking", "done": false}
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.http.json_response import Count
from thirdeye.server.api.openai.logprob_lists import ChosenToken
from thirdeye.server.api.state.answer_parts import AnswerTimings


class OllamaCalled(Struct):
    index: Count
    name: str
    arguments: JsonObject


class OllamaToolCall(Struct):
    id: str
    function: OllamaCalled


class OllamaMessage(Struct, kw_only=True):
    role: Literal["assistant"]
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[OllamaToolCall] | UnsetType = UNSET


class OllamaAnswer(Struct, kw_only=True):
    """Durations are nanoseconds; they and the counts stand in the last line."""

    model: str
    created_at: str
    done: bool
    done_reason: Literal["stop", "length", "load"] | UnsetType = UNSET
    total_duration: Count | UnsetType = UNSET
    load_duration: Count | UnsetType = UNSET
    prompt_eval_count: Count | UnsetType = UNSET
    prompt_eval_duration: Count | UnsetType = UNSET
    eval_count: Count | UnsetType = UNSET
    eval_duration: Count | UnsetType = UNSET
    timings: AnswerTimings | UnsetType = UNSET
    logprobs: list[ChosenToken] | UnsetType = UNSET


class OllamaChatAnswer(OllamaAnswer, kw_only=True):
    message: OllamaMessage


class OllamaTextAnswer(OllamaAnswer, kw_only=True):
    response: str
    thinking: str | UnsetType = UNSET


class AnswerPiece(Struct, kw_only=True):
    """What an event adds to the answer."""

    text: str = ""
    thought: str = ""
    calls: list[OllamaToolCall] = []
    scores: list[ChosenToken] = []
    ending: JsonObject = {}  # of the last one


Shape = Callable[..., OllamaAnswer]  # (a piece, the fields of `OllamaAnswer`)


def chat_answer(piece: AnswerPiece, **about: Any) -> OllamaChatAnswer:
    message = OllamaMessage(
        role="assistant",
        content=piece.text,
        thinking=piece.thought or UNSET,
        tool_calls=piece.calls or UNSET,
    )
    return OllamaChatAnswer(message=message, **about)


def text_answer(piece: AnswerPiece, **about: Any) -> OllamaTextAnswer:
    return OllamaTextAnswer(response=piece.text, thinking=piece.thought or UNSET, **about)


def nanoseconds(milliseconds: float) -> int:
    return round(milliseconds * 1e6)


def rfc3339(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""What the server's answers are read into: small, frozen, forgiving.

Every class reads one JSON object of OpenAI's shapes by its `read`, takes what it knows, and keeps
the whole object in `raw`: what another server adds is there, and what it leaves out is None, ""
or 0. A key of the wrong type counts as left out, so reading never raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from thirdeye.clients.inspection.arrays import LabelledArray

JSON = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens: of the prompt (of these, from the server's prefix cache), of the answer, together."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0

    @classmethod
    def read(cls, raw: Any) -> Self | None:
        if not isinstance(raw, dict):
            return None
        return cls(
            prompt_tokens=_int(raw.get("prompt_tokens")),
            completion_tokens=_int(raw.get("completion_tokens")),
            total_tokens=_int(raw.get("total_tokens")),
            cached_tokens=_int(_dict(raw.get("prompt_tokens_details")).get("cached_tokens")),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What both kinds of answer have. `text` and `finish_reason` are those of choice 0.

    `timings` are the server's milliseconds and rates (`ttft_ms`, `predicted_per_second`, ...), None
    where the server sends none. Of a stream, `raw` is the last chunk.
    """

    text: str
    finish_reason: str | None
    usage: Usage | None = None
    timings: JSON | None = None
    id: str = ""
    model: str = ""
    raw: JSON = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, raw: Any) -> Self:
        first = _first(_dict(raw).get("choices"))
        return cls(
            text=_choice_text(first, "message"),
            finish_reason=_str(first.get("finish_reason")) or None,
            **_envelope(_dict(raw)),
        )


@dataclass(frozen=True, slots=True)
class Completion(Answer):
    """The answer of `/v1/completions`: `text` goes on where the prompt ended."""


@dataclass(frozen=True, slots=True)
class ChatAnswer(Answer):
    """The answer of `/v1/chat/completions`: `text` is the assistant's turn."""

    @property
    def message(self) -> dict[str, str]:
        """The turn as a message, to be appended to the history."""
        return {"role": "assistant", "content": self.text}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One step of a stream: the new text of choice `index`, often a single token's.

    The last chunks carry the `finish_reason`, the `usage` and the `timings`.
    """

    text: str = ""
    thought: str = ""  # what the model thinks before it answers
    finish_reason: str | None = None
    index: int = 0
    usage: Usage | None = None
    timings: JSON | None = None
    id: str = ""
    model: str = ""
    raw: JSON = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, raw: Any) -> list[Self]:
        """One chunk for each choice in the event, one without text for an event without choices."""
        envelope = _envelope(_dict(raw))
        choices = [_dict(choice) for choice in _list(_dict(raw).get("choices"))] or [{}]
        return [
            cls(
                text=_choice_text(choice, "delta"),
                thought=_thought(_dict(choice.get("delta"))),
                finish_reason=_str(choice.get("finish_reason")) or None,
                index=_int(choice.get("index")),
                **envelope,
            )
            for choice in choices
        ]


@dataclass(frozen=True, slots=True)
class Model:
    """A served model; `max_model_len` is its context in tokens, None where unknown."""

    id: str
    max_model_len: int | None = None
    raw: JSON = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, raw: Any) -> Self:
        fields = _dict(raw)
        return cls(_str(fields.get("id")), _int(fields.get("max_model_len")) or None, fields)

    @classmethod
    def read_list(cls, raw: Any) -> list[Self]:
        return [cls.read(entry) for entry in _list(_dict(raw).get("data"))]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as token ids, and the context they have to fit into, None where unknown."""

    tokens: list[int]
    max_model_len: int | None = None
    raw: JSON = field(default_factory=dict, repr=False)

    @property
    def count(self) -> int:
        return len(self.tokens)

    @classmethod
    def read(cls, raw: Any) -> Self:
        fields = _dict(raw)
        tokens = [token for token in _list(fields.get("tokens")) if isinstance(token, int)]
        return cls(tokens, _int(fields.get("max_model_len")) or None, fields)


@dataclass(frozen=True, slots=True)
class Inspection:
    """A look inside the model: the text's `tokens`, what each layer does, the guesses at the end.

    `layers` are as the server tells them, one object each, with `pattern` [head, query, key],
    `norms`, `logit_lens` and what else was asked for. `next_token` is a list of guesses, each with
    `token` and `logprob`, for each position that was looked at.
    """

    tokens: list[str]
    layers: list[JSON]
    next_token: list[list[JSON]]
    raw: JSON = field(default_factory=dict, repr=False)

    @property
    def arrays(self) -> "dict[str, LabelledArray]":
        """All numbers by their names, as numpy arrays with named dimensions: of `pattern`
        [layer, head, query_pos, key_pos]. Raises ThirdeyeError for what is no answer."""
        from thirdeye.clients.inspection.arrays import arrays_of  # noqa: PLC0415  # needs numpy

        return arrays_of(self.raw)

    @classmethod
    def read(cls, raw: Any) -> Self:
        fields = _dict(raw)
        return cls(
            tokens=[_str(_dict(token).get("token")) for token in _list(fields.get("tokens"))],
            layers=[_dict(layer) for layer in _list(fields.get("layers"))],
            next_token=[
                [_dict(guess) for guess in _list(guesses)]
                for guesses in _list(fields.get("next_token"))
            ],
            raw=fields,
        )


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the server answers requests now; `raw` holds its reason if it does not."""

    ok: bool
    status: int
    raw: JSON = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, status: int, raw: Any) -> Self:
        return cls(status < 300, status, _dict(raw))


def _envelope(raw: JSON) -> dict[str, Any]:
    """The fields that stand beside `choices`, the same in answers and in chunks."""
    return {
        "usage": Usage.read(raw.get("usage")),
        "timings": _dict(raw.get("timings")) or None,
        "id": _str(raw.get("id")),
        "model": _str(raw.get("model")),
        "raw": raw,
    }


def _thought(delta: JSON) -> str:
    return _str(delta.get("reasoning_content")) or _str(delta.get("reasoning"))


def _choice_text(choice: JSON, holder: str) -> str:
    """Chat puts its text into `message.content` or `delta.content`, completions into `text`."""
    text = _str(_dict(choice.get(holder)).get("content")) or _str(choice.get("text"))
    try:
        text.encode()
        return text
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell and UTF-8 cannot
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _first(choices: Any) -> JSON:
    """Choice 0: most servers send choices in order, none has to."""
    by_index = {_int(_dict(choice).get("index")): _dict(choice) for choice in _list(choices)}
    return by_index.get(0, {})


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _str(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0

"""A stream that goes on where another one broke off, so that nobody sees where.

    first server    "Once upon a ti", ids [5, 9, 2, 7]    and it is gone
    another one     {"answer_token_ids": [5, 9, 2]} ->    "Once upon a time there was ..."
    who reads                                             "me there was ..."

Servers of one model that promise "same prompt, same answer" (thirdeye does, for greedy and for
seeded answers) say the same whoever is asked. So the other one is given the tokens that came, takes
them as drawn by itself, and tells the whole answer; what has been read of it is cut off. The last
token that came is drawn again: it may have ended the answer, and it shows whether both are the same
model. `Splice` does this without a socket; the clients' streams drive it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from thirdeye.clients.core import StreamCall
from thirdeye.clients.errors import NotResumed, ServerError, StreamBroken, ThirdeyeError
from thirdeye.clients.retry import is_retriable
from thirdeye.clients.types import Answer

A = TypeVar("A", bound=Answer)
JSON = dict[str, Any]

HIDDEN_LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")  # of completions
ALONE = {  # fields that cannot go with it, and the values at which they ask for nothing
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "receipt": (False,),
    "prompt_logprobs": (),
}


def check_resumable(body: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the field, for a request whose answer is not the same again."""
    for name, neutral in ALONE.items():
        value = body.get(name)
        if value is not None and value not in neutral:
            raise ValueError(f"'resume' cannot go with '{name}': one answer alone is continued.")
    prompt = body.get("prompt")
    if isinstance(prompt, list) and (
        len(prompt) != 1 and not all(isinstance(x, int) for x in prompt)
    ):
        raise ValueError("'resume' cannot go with several prompts in 'prompt': send one.")
    if body.get("temperature") != 0 and body.get("seed") is None:
        raise ValueError(
            "'resume' needs 'temperature': 0 or a 'seed': another server would draw other tokens."
        )


class Splice(Generic[A]):
    """One answer over any number of streams. `call` is what to send now; hand every event of the
    stream to `new_part`; after a break `restart`, and send `call` again, anywhere."""

    def __init__(self, call: StreamCall[A]) -> None:
        """Raises ValueError for what cannot be resumed."""
        body = dict(call.body or {})
        check_resumable(body)
        self._call = replace(call, body=body | {"return_token_ids": True})
        self._token_ids: list[int] = []
        self._num_chars = {"text": 0, "thought": 0}
        self._to_skip = {"text": 0, "thought": 0}  # of the present stream, still
        self._again: int | None = None  # the token that is to be drawn again, if it has not been
        self._is_last_in_content = True  # its logprobs are listed there, not among the thoughts'
        self._head: JSON = {}
        self._is_restarted = self._has_calls = self._has_ended = False

    @property
    def num_tokens(self) -> int:
        """How many have come: what a new stream brings further."""
        return len(self._token_ids)

    @property
    def call(self) -> StreamCall[A]:
        known = self._token_ids[:-1]
        more = {"answer_token_ids": known} if known else {}
        return replace(self._call, body={**(self._call.body or {}), **more})

    def restart(self, error: ThirdeyeError) -> None:
        """The stream broke off. Raises the error where another server would not help, or where what
        has come cannot be continued."""
        is_lost = isinstance(error, StreamBroken | ServerError) or is_retriable(error)
        if not is_lost or isinstance(error, NotResumed):
            raise error
        if self._has_calls:
            raise NotResumed(
                "The stream broke inside its tool calls ('tools'), whose ids another server cannot "
                "know: it was not resumed. Send the request again."
            ) from error
        self._is_restarted = bool(self._head)
        self._to_skip = dict(self._num_chars)
        self._again = self._token_ids[-1] if self._token_ids else None

    def new_part(self, raw: JSON) -> JSON | None:
        """What of an event is new, under the first stream's id; None if nothing is."""
        self._check_head(raw)
        raw = raw | {name: self._head[name] for name in ("id", "created") if name in self._head}
        choices = [self._new_choice(choice) for choice in raw.get("choices") or []]
        if not self._is_restarted:
            return raw | {"choices": choices} if choices else raw
        for name in ("prompt_token_ids", "prompt_progress"):
            raw.pop(name, None)
        is_new = any(map(_says_something, choices)) or raw.get("usage") or raw.get("timings")
        return raw | {"choices": choices} if is_new else None

    def _check_head(self, raw: JSON) -> None:
        """Remember the first; raises NotResumed for an event of another model."""
        name = "system_fingerprint"
        if not self._head:
            self._head = {key: raw[key] for key in ("id", "created", name) if key in raw}
        elif raw.get(name) != self._head.get(name):
            raise NotResumed(
                f"The stream was resumed by another model or version: its '{name}' is "
                f"{raw.get(name)!r}, that of the beginning {self._head.get(name)!r}."
            )

    def _new_choice(self, choice: JSON) -> JSON:
        choice = dict(choice)
        if self._is_restarted:
            choice.pop("prompt_token_ids", None)
        if isinstance(choice.get("delta"), dict):
            choice["delta"] = self._new_delta(dict(choice["delta"]))
        elif isinstance(choice.get("text"), str):
            choice["text"] = self._new_text("text", choice["text"])
        self._take_tokens(choice)
        if choice.get("finish_reason") is not None:
            if self._has_ended:
                choice["finish_reason"] = None  # only what stands behind it was missing
            self._has_ended = True
        return choice

    def _new_delta(self, delta: JSON) -> JSON:
        if self._is_restarted:
            delta.pop("role", None)
        self._has_calls = self._has_calls or bool(delta.get("tool_calls"))
        if isinstance(delta.get("content"), str):
            delta["content"] = self._new_text("text", delta["content"])
        names = [n for n in ("reasoning_content", "reasoning") if isinstance(delta.get(n), str)]
        if names:
            thought = self._new_text("thought", delta[names[0]])
            delta.update(dict.fromkeys(names, thought))
        return delta

    def _new_text(self, kind: str, text: str) -> str:
        num_known = min(self._to_skip[kind], len(text))
        self._to_skip[kind] -= num_known
        self._num_chars[kind] += len(text) - num_known
        return text[num_known:]

    def _take_tokens(self, choice: JSON) -> None:
        token_ids, logprobs = list(choice.get("token_ids") or []), choice.get("logprobs")
        if token_ids and self._again is not None:
            if token_ids[0] != self._again:
                raise NotResumed(
                    "The server that resumed the stream draws other tokens for the same request "
                    f"({token_ids[0]}, and {self._again} had come): it is not the same model, or "
                    "it computes with other numbers."
                )
            self._again = None
            token_ids = choice["token_ids"] = token_ids[1:]
            if isinstance(logprobs, dict):
                choice["logprobs"] = self._without_first(logprobs)
        self._token_ids += token_ids
        if token_ids and isinstance(logprobs, dict):
            self._is_last_in_content = bool(logprobs.get("content"))

    def _without_first(self, logprobs: JSON) -> JSON:
        in_chat = "content" if self._is_last_in_content else "reasoning_content"
        names = (in_chat,) if "content" in logprobs else HIDDEN_LISTS
        return logprobs | {name: logprobs[name][1:] for name in names if logprobs.get(name)}


def _says_something(choice: JSON) -> bool:
    delta = choice.get("delta")
    said = delta if isinstance(delta, dict) else choice
    names = ("content", "text", "reasoning_content", "reasoning", "tool_calls")
    has_end = choice.get("finish_reason") is not None
    return has_end or bool(choice.get("token_ids")) or any(said.get(name) for name in names)


class Rounds:
    """Which of several servers is asked next, and after how many seconds."""

    def __init__(self, num_servers: int, wait: Callable[[ThirdeyeError, int], float]) -> None:
        """`wait` is how long to wait behind an error and so many rounds; it raises the error where
        there is to be no other."""
        self.server = 0
        self._num_servers = num_servers
        self._wait = wait
        self._num_failures = 0  # since the answer last grew

    def after(self, error: ThirdeyeError, *, has_grown: bool) -> float:
        """The next server's turn: at once, unless all of them have failed in vain."""
        self.server = (self.server + 1) % self._num_servers
        self._num_failures = 0 if has_grown else self._num_failures + 1
        rounds, others = divmod(self._num_failures, self._num_servers)
        return self._wait(error, rounds - 1) if rounds and not others else 0.0

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

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from thirdeye.clients.core import StreamCall
from thirdeye.clients.errors import NotResumed, ServerError, StreamBroken, ThirdeyeError
from thirdeye.clients.retry import is_retriable
from thirdeye.clients.types import Answer

A = TypeVar("A", bound=Answer)
JSON = dict[str, Any]

MAX_TOKENS = 1 << 20  # of a resumed answer: no server's context is as long
MAX_BREAKS = 100  # of one answer: who gives a token and breaks, again and again, is not followed
MAX_SHOWN = 60  # characters of what a server said in an error
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
        self._told = {"text": Told(), "thought": Told()}
        self._repeated = {"text": Told(), "thought": Told()}  # by the present stream
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
        self._repeated = {"text": Told(), "thought": Told()}
        self._again = self._token_ids[-1] if self._token_ids else None

    def check_end(self) -> None:
        """The present stream has ended well. Raises NotResumed if it has told less than there was
        before: the answer would be cut, and pass for a whole one."""
        if not self._is_restarted:
            return
        has_all = all(self._is_repeated(kind) for kind in self._told)
        if self._again is not None or not has_all:
            raise NotResumed(
                "The server that resumed the stream ended it before it came to where the last one "
                "broke off: the answer may be cut."
            )

    def new_part(self, raw: JSON) -> JSON | None:
        """What of an event is new, under the first stream's id; None if nothing is. Raises
        StreamBroken for what cannot be read."""
        self._check_head(raw)
        raw = raw | {name: self._head[name] for name in ("id", "created") if name in self._head}
        choices = [self._new_choice(choice) for choice in _choices_of(raw)]
        if not self._is_restarted:
            return raw | {"choices": choices} if choices else raw
        for name in ("prompt_token_ids", "prompt_progress"):
            raw.pop(name, None)
        is_new = any(map(_says_something, choices)) or raw.get("usage") or raw.get("timings")
        return raw | {"choices": choices} if is_new else None

    def _check_head(self, raw: JSON) -> None:
        """Remember the first; raises NotResumed for an event of another model."""
        name = "system_fingerprint"
        if not isinstance(raw.get(name), str | None):
            raise StreamBroken(f"The '{name}' of an event is no text.")
        if not self._head:
            self._head = {key: raw[key] for key in ("id", "created", name) if key in raw}
        elif raw.get(name) != self._head.get(name):
            raise NotResumed(
                f"The stream was resumed by another model or version: its '{name}' is "
                f"{_shown(raw.get(name))}, that of the beginning {_shown(self._head.get(name))}."
            )

    def _new_choice(self, choice: JSON) -> JSON:
        choice = dict(choice)
        if self._is_restarted:
            choice.pop("prompt_token_ids", None)
        self._take_tokens(choice)
        if isinstance(choice.get("delta"), dict):
            choice["delta"] = self._new_delta(dict(choice["delta"]))
        elif isinstance(choice.get("text"), str):
            choice["text"] = self._new_text("text", choice["text"])
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
        """What has not been told. Raises NotResumed where other text is repeated than was told."""
        told, repeated = self._told[kind], self._repeated[kind]
        num_known = min(told.num_chars - repeated.num_chars, len(text)) if self._is_restarted else 0
        if num_known:
            repeated.add(text[:num_known])
            if repeated.num_chars == told.num_chars and not self._is_repeated(kind):
                raise NotResumed(
                    "The server that resumed the stream tells another text than what had come: it "
                    "is not the same model, or it was asked for something else."
                )
        new = text[num_known:]
        told.add(new)
        if self._is_restarted:
            repeated.add(new)
        return new

    def _is_repeated(self, kind: str) -> bool:
        return self._repeated[kind].digest == self._told[kind].digest

    def _take_tokens(self, choice: JSON) -> None:
        token_ids, logprobs = _token_ids_of(choice), choice.get("logprobs")
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
        if len(self._token_ids) > MAX_TOKENS:
            raise NotResumed(f"The stream has more than {MAX_TOKENS:,} tokens: it is not read on.")
        if token_ids and isinstance(logprobs, dict):
            self._is_last_in_content = bool(logprobs.get("content"))

    def _without_first(self, logprobs: JSON) -> JSON:
        in_chat = "content" if self._is_last_in_content else "reasoning_content"
        names = (in_chat,) if "content" in logprobs else HIDDEN_LISTS
        lists = {name: logprobs.get(name) for name in names}
        return logprobs | {name: x[1:] for name, x in lists.items() if isinstance(x, list)}


class Told:
    """How much text there was, and a hash of it: two of the same are of the same text."""

    def __init__(self) -> None:
        self.num_chars = 0
        self._hash = hashlib.sha256()

    def add(self, text: str) -> None:
        self.num_chars += len(text)
        self._hash.update(text.encode(errors="surrogatepass"))

    @property
    def digest(self) -> bytes:
        return self._hash.digest()


def _choices_of(raw: JSON) -> list[JSON]:
    """None, or the one that was asked for. Raises StreamBroken for anything else."""
    choices = raw.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
        raise StreamBroken("The 'choices' of an event are no list of objects.")
    if len(choices) > 1 or any(one.get("index") not in (None, 0) for one in choices):
        raise StreamBroken("An event has another choice than the one that was asked for.")
    return choices


def _token_ids_of(choice: JSON) -> list[int]:
    """Raises StreamBroken for what cannot be ids: another server is going to be sent them."""
    found = choice.get("token_ids") or []
    if not isinstance(found, list) or not all(type(x) is int and 0 <= x < 1 << 31 for x in found):
        raise StreamBroken("The 'token_ids' of an event are no list of token ids.")
    return list(found)


def _shown(said: str | None) -> str:
    return repr(said if said is None else said[:MAX_SHOWN])


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
        self._num_breaks = 0

    def after(self, error: ThirdeyeError, *, has_grown: bool) -> float:
        """The next server's turn: at once, unless all of them have failed in vain. Raises the error
        after `MAX_BREAKS`."""
        self._num_breaks += 1
        if self._num_breaks > MAX_BREAKS:
            raise error
        self.server = (self.server + 1) % self._num_servers
        self._num_failures = 0 if has_grown else self._num_failures + 1
        rounds, others = divmod(self._num_failures, self._num_servers)
        return self._wait(error, rounds - 1) if rounds and not others else 0.0

"""A client without a socket: it speaks ASGI to the application, reads slowly, leaves early."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.types import Message

from tests.api.support import post_scope
from tests.trust.faults.broken_engine import answer_to
from tests.trust.faults.schedules import Visitor

PATH = "/v1/completions"
REFUSALS = {429, 503}  # nothing here is a bug of ours
GUARD_SECONDS = 31.0  # then the connection's guard drops who takes nothing


@dataclass
class Visit:
    visitor: Visitor
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    is_over: bool = False  # the last byte is here
    has_left: bool = False

    async def run(self, app: FastAPI) -> None:
        await asyncio.sleep(self.visitor.at)
        requests = [self._request()]
        gone = asyncio.Event()

        async def receive() -> Message:
            if requests:
                return requests.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if not gone.is_set():
                await asyncio.sleep(min(self.visitor.seconds_a_read, GUARD_SECONDS))
            if self.visitor.seconds_a_read > GUARD_SECONDS:
                gone.set()
            if not gone.is_set():
                self._take(message)

        def leave() -> None:
            self.has_left = not self.is_over
            gone.set()

        if self.visitor.leaves_after is not None:
            asyncio.get_running_loop().call_later(self.visitor.leaves_after, leave)
        await app(post_scope(PATH), receive, send)

    def _request(self) -> Message:
        visitor = self.visitor
        body: dict[str, Any] = {
            "model": "tiny",
            "prompt": visitor.prompt,
            "max_tokens": visitor.num_tokens,
            "stream": visitor.is_stream,
            "n": visitor.num_choices,
        }
        if visitor.has_grammar:
            body["structured_outputs"] = {"choice": ["a", "b"]}
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    def _take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not self.status, "a second answer"
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            assert not self.is_over, "bytes behind the end"
            self.body += message.get("body", b"")
            self.is_over = not message.get("more_body", False)

    def check(self) -> str:
        """How it ended, in a word; raises where that was no proper end."""
        if self.has_left:
            return "left"
        if not self.status:
            assert self.visitor.seconds_a_read > 1, "no answer at all"
            return "dropped"
        if self.status != 200:
            assert self.is_over, f"{self.status} without an end"
            error = json.loads(self.body)["error"]
            if self.visitor.has_grammar and error["code"] == "invalid_schema":
                return "refused: invalid_schema"
            assert self.status in REFUSALS, (self.status, self.body)
            assert b"retry-after" in self.headers or b"x-should-retry" in self.headers, error
            return f"refused: {error['code']}"
        return self._check_stream() if self.visitor.is_stream else self._check_whole()

    def _check_whole(self) -> str:
        if not self.is_over:
            assert self.visitor.seconds_a_read > 1, "cut without a word"
            return "dropped"
        for choice in json.loads(self.body)["choices"]:
            assert choice["finish_reason"] == "length"
            assert choice["text"] == self._expected
        return "answered"

    def _check_stream(self) -> str:
        """Each choice ends once, all told is true, and an error is the last thing said."""
        said = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        texts: dict[int, str] = {}
        ended: list[int] = []
        errors = 0
        for number, line in enumerate(said):
            if line == "[DONE]":
                assert number == len(said) - 1
                continue
            chunk = json.loads(line)
            assert not errors, "something was said behind an error"
            if "error" in chunk:
                errors += 1
                continue
            for choice in chunk["choices"]:
                index = choice["index"]
                assert index not in ended, "something was said behind the end of a choice"
                texts[index] = texts.get(index, "") + choice["text"]
                if choice["finish_reason"] is not None:
                    assert choice["finish_reason"] == "length"
                    ended.append(index)
        for index, text in texts.items():
            assert self._expected.startswith(text)
            assert index not in ended or text == self._expected
        if not said or said[-1] != "[DONE]":
            assert self.visitor.seconds_a_read > 1, f"cut without a word: {self.body!r}"
            return "dropped"
        if errors:
            return "error"
        assert sorted(ended) == list(range(self.visitor.num_choices))
        assert self.is_over
        return "answered"

    @property
    def _expected(self) -> str:
        return answer_to(self.visitor.prompt, self.visitor.num_tokens)

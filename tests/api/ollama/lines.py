"""What the tests of Ollama's dialect share: small good requests, and lines of a stream, read."""

import json
from typing import Any

from tests.api.support import Served
from tests.engine.process.fake_engine import FakeEngine

Json = dict[str, Any]

CHAT, GENERATE = "/api/chat", "/api/generate"
HI = {"role": "user", "content": "Hi"}
ASK: Json = {"model": "tiny", "messages": [HI]}
WRITE: Json = {"model": "tiny", "prompt": "Hi"}
GOOD: dict[str, Json] = {
    CHAT: ASK,
    GENERATE: WRITE,
    "/api/embed": {"model": "tiny", "input": "Hi"},
    "/api/embeddings": {"model": "tiny", "prompt": "Hi"},
    "/api/show": {"model": "tiny"},
}


def lines(served: Served, path: str, body: Json) -> list[Json]:
    """The lines of a stream: each is one JSON object, the last of them alone is `done`."""
    answer = served.post(path, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    found = [json.loads(line) for line in answer.text[:-1].split("\n")]
    assert [line.get("done") for line in found[:-1]] == [False] * (len(found) - 1)
    return found


def whole(served: Served, path: str, body: Json) -> Json:
    return served.whole(path, body | {"stream": False})


def joined(found: list[Json]) -> Json:
    """What the lines of a stream add up to: the last one, with all text, calls and scores."""
    parts = [line.get("message", line) for line in found]
    text = "content" if "message" in found[0] else "response"
    added: Json = {text: "".join(part[text] for part in parts)}
    if thought := "".join(part.get("thinking", "") for part in parts):
        added["thinking"] = thought
    if calls := [call for part in parts for call in part.get("tool_calls", [])]:
        added["tool_calls"] = calls
    last = dict(found[-1])
    if scores := [score for line in found for score in line.get("logprobs", [])]:
        last["logprobs"] = scores
    if "message" in found[0]:
        return last | {"message": {"role": "assistant"} | added}
    return last | added


def without_times(answer: Json) -> Json:
    """The answer less what differs from run to run: clocks, and ids that are drawn."""
    kept = {k: v for k, v in answer.items() if not k.endswith("_duration") and k != "timings"}
    message = dict(kept.get("message", {}))
    if "tool_calls" in message:
        message["tool_calls"] = [call["function"] for call in message["tool_calls"]]
    return kept | ({"message": message} if message else {}) | {"created_at": ""}


def prompt_of(engine: FakeEngine) -> str:
    ids = engine.requests[-1].prompt_token_ids
    return b"".join({256: b"^", 257: b"$", 258: b"|"}.get(i) or bytes([i]) for i in ids).decode()

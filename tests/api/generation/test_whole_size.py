"""What a whole answer may hold: 300 bytes of a request ask for gigabytes of it."""

from typing import Any

import pytest

from tests.api.support import Served, says
from tests.api.support import fake_engine as engine_of
from thirdeye.server.api.generation import whole_size
from thirdeye.server.api.generation.whole_size import WholeSize
from thirdeye.server.engine.interface.types import TokenLogprobs
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.text.events import TextEvent, TextToken

TOP = [(i, -1.0) for i in range(20)]
LOGPROBS = TokenLogprobs(5, -0.5, 1, TOP)
CHAT: dict[str, Any] = {
    "model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "n": 4, "max_tokens": 8,
    "logprobs": True, "top_logprobs": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("event", "size"),
    [
        (TextEvent("ab", tokens=[TextToken(1, b"a"), TextToken(2, b"b")]), 2),
        (TextEvent("a", tokens=[TextToken(5, b"a", LOGPROBS)]), 21),
        (TextEvent("", prompt_logprobs=[LOGPROBS, LOGPROBS]), 42),
        (TextEvent(""), 0),
    ],
)
def test_what_is_counted(event: TextEvent, size: int) -> None:
    found = WholeSize(size)
    found.add(event)
    with pytest.raises(InvalidRequest, match="tokens and logprobs together"):
        WholeSize(size - 1).add(event)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_an_answer_that_grows_beyond_it_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """And its choices end in the engine; a stream keeps nothing, so it goes on."""
    monkeypatch.setattr(whole_size.WholeSize.__init__, "__defaults__", (12,))
    engine = served.use(engine_of(says("Hello!")))
    body = CHAT if "chat" in path else {"model": "tiny", "prompt": "Hi", "n": 4, "logprobs": 1}
    answer = served.post(path, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "request_too_large")
    assert served.state.admission.in_flight == 0
    assert len(engine.requests) == 4
    assert served.post(path, body | {"stream": True}).text.endswith("data: [DONE]\n\n")

"""What operators and people see: health, metrics, the page, the documentation."""

import asyncio
import json
import re
import sys
from importlib.resources import files
from typing import Any

import httpx
import pytest

from tests.api.support import CHAT, COMPLETION, client_over, document, fake_engine, ready_state
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.metrics import Metrics
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.logs import clean
from thirdeye.server.web import ASSETS

URL = "/v1/chat/completions"
WEB = files("thirdeye.server.web")


def get(path: str, state: ServerState | None = None, method: str = "GET") -> httpx.Response:
    async def main() -> httpx.Response:
        async with client_over(state or ready_state(fake_engine())) as client:
            return await client.request(method, path)

    return asyncio.run(main())


def test_health_and_ready_over_a_servers_life() -> None:
    """Loading: neither; ready: both; leaving: neither."""
    state = ServerState()
    assert (get("/health", state).status_code, get("/ready", state).status_code) == (503, 503)
    engine = fake_engine()
    model = ready_state(engine).model
    assert model is not None
    state.ready(engine, model)
    assert (get("/health", state).status_code, get("/ready", state).status_code) == (200, 200)
    state.drain()
    assert (get("/health", state).status_code, get("/ready", state).status_code) == (503, 503)


def test_the_page_is_served_while_the_model_loads() -> None:
    async def main() -> None:
        async with client_over(ServerState()) as client:
            for path in (*ASSETS, "/docs", "/version"):
                assert (await client.get(path)).status_code == 200, path
            assert (await client.get("/web/vendor/vendor.toml")).status_code == 404

    asyncio.run(main())


def test_libraries_are_kept_and_the_rest_is_asked_for_again() -> None:
    """Their versions are in their paths; the page's own files change where they are."""
    (library, *_) = (path for path in ASSETS if path.startswith("/web/vendor/"))
    assert get(library).headers["cache-control"] == "public, max-age=31536000, immutable"
    for path in ("/", "/web/app.js", "/web/style/base.css"):
        assert get(path).headers["cache-control"] == "no-cache"


def test_head_works_where_get_does() -> None:
    for path in ("/health", "/v1/models", "/", "/metrics", "/docs"):
        answer = get(path, method="HEAD")
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_hold_nothing_inline_and_nothing_foreign(path: str) -> None:
    """The policy forbids it; a page that breaks its own policy would not work."""
    answer = get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<style|<script>|\son\w+=|\sstyle=|https?://", answer.text)
    for asset in re.findall(r'(?:src|href)="(/[^"]*)"', answer.text):
        assert get(asset).status_code == 200


def test_scripts_only_make_text_nodes() -> None:
    """Text of a model must not become markup."""
    for path, (name, _) in ASSETS.items():
        if not path.endswith(".js") or path.startswith("/web/vendor/"):
            continue
        source = WEB.joinpath(name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source)


def test_docs_list_every_documented_route() -> None:
    page = get("/docs").text
    for path in document()["paths"]:
        assert path in page


def test_the_openapi_document_is_whole() -> None:
    """Every reference leads somewhere, bodies are closed, what says nothing is allowed for optional
    fields."""
    document = get("/openapi.json").json()
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"]
    chat = document["components"]["schemas"]["ChatRequest"]
    assert chat["additionalProperties"] is False
    assert chat["required"] == ["messages"]
    n = chat["properties"]["n"]["anyOf"]
    assert {"enum": [None, "", [], {}]} in n
    assert any(option.get("maximum") == 128 for option in n)
    operation = document["paths"][URL]["post"]
    assert {"200", "400", "403", "404", "413", "429", "500", "503"} <= operation["responses"].keys()
    assert "422" not in text
    assert "text/event-stream" in operation["responses"]["200"]["content"]


def metric(text: str, name: str) -> float:
    """The sum of a metric's samples."""
    found = re.findall(rf"^thirdeye_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    assert found, name
    return sum(float(value) for value in found)


def test_metrics_count_what_the_answers_said() -> None:
    """Token counters equal the sum of usage, and gauges are back at 0."""
    state = ready_state(fake_engine(num_cached_tokens=2))

    async def main() -> tuple[list[dict[str, Any]], str]:
        async with client_over(state) as client:
            bodies = [CHAT, CHAT | {"n": 3}]
            answers = [(await client.post(URL, json=body)).json() for body in bodies]
            await client.post("/v1/completions", json=COMPLETION | {"max_tokens": 2})
            await client.post(URL, json=CHAT | {"n": 999})
            await client.get("/nope/whatever")
            return answers, (await client.get("/metrics")).text

    answers, text = asyncio.run(main())
    generated = sum(answer["usage"]["completion_tokens"] for answer in answers) + 2
    assert answers[0]["usage"]["prompt_tokens_details"]["cached_tokens"] == 2
    assert metric(text, "generation_tokens_total") == generated
    assert metric(text, "request_generation_tokens_sum") == generated
    assert metric(text, "num_requests_running") == 0
    assert metric(text, "request_success_total") == 5
    assert metric(text, "num_aborted_requests_total") == 0
    assert metric(text, "e2e_request_latency_seconds_count") == 3
    assert metric(text, r'http_responses_total{[^}]*status="400"}') == 1
    assert 'route="other",status="404"' in text
    assert "/nope" not in text


def test_metrics_count_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often speculation guessed, and how often it was right, under vLLM's names."""
    engine = fake_engine()
    stats = EngineStats(
        spec_decode_num_draft_tokens_total=9,
        spec_decode_num_accepted_tokens_total=4,
        draft_seconds_total=1.5,
        is_draft_paused=True,
    )
    monkeypatch.setattr(engine, "stats", lambda: stats)
    text = Metrics(ready_state(engine)).scrape()[0].decode()
    assert metric(text, "spec_decode_num_draft_tokens_total") == 9
    assert metric(text, "spec_decode_num_accepted_tokens_total") == 4
    assert metric(text, "spec_decode_is_paused") == 1
    assert metric(text, r'scheduler_stage_seconds_total{[^}]*stage="draft"}') == 1.5


def test_two_apps_in_one_process_share_no_metric() -> None:
    """A global registry would refuse the second."""
    create_app(ready_state(fake_engine()), ApiConfig())
    create_app(ready_state(fake_engine()), ApiConfig())


def test_log_text_is_one_line() -> None:
    assert clean("a\r\nb\x1b[31m\u2028c") == "a??b?[31m?c"
    assert clean("plain text, \u00e9") == "plain text, \u00e9"
    assert len(clean("x" * 9999)) == len(clean("\n" * 9999)) == 512


def test_plain_log_text_is_cleaned_in_one_call() -> None:
    """It runs for each field of each request's line: not once for each character."""
    calls: list[str] = []
    sys.setprofile(lambda frame, event, arg: calls.append(event))
    try:
        clean("req_0123456789abcdef0123456789abcdef")
    finally:
        sys.setprofile(None)
    assert calls.count("call") == 1
    assert calls.count("c_call") <= 2  # isprintable, and the profile's own end

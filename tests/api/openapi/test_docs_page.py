"""The page at `/docs`: every field in words, and examples that work."""

import asyncio
import re
from dataclasses import replace
from html import escape

import httpx
import pytest

from tests.api.http.test_errors import ask
from tests.api.support import client_over, document, fake_engine, ready_state
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.openapi import docs_page as docs_page_module
from thirdeye.server.api.openapi.docs_page import docs_page, kind_of
from thirdeye.server.api.openapi.document import REQUESTS
from thirdeye.server.api.openapi.examples import EXAMPLES
from thirdeye.server.api.openapi.inner_descriptions import ROUTES, inner_descriptions
from thirdeye.server.launch.asgi_app import create_app


@pytest.fixture(scope="module")
def page() -> str:
    return docs_page(create_app(ready_state(fake_engine())))


TRIALS = [
    (path, EXAMPLES[body["schema"]["$ref"].rpartition("/")[2]])
    for path, operations in document()["paths"].items()
    for operation in operations.values()
    for body in operation.get("requestBody", {}).get("content", {}).values()
    if "example" in body
]


@pytest.mark.parametrize(("path", "example"), TRIALS, ids=lambda value: str(value)[:40])
def test_an_example_is_answered(path: str, example: dict[str, object]) -> None:
    answer = ask(path, example)
    assert answer.status_code == 200, answer.text
    assert '"error":{' not in answer.text


def test_every_request_that_can_be_made_up_has_an_example() -> None:
    """A receipt is made by an answer, adapters are an operator's files, of several models each has
    its name."""
    others = {
        "VerifyRequest",
        "LoadAdapterRequest",
        "UnloadAdapterRequest",
        "ModelNameRequest",
    }
    assert {model.__name__ for model in REQUESTS} - others == EXAMPLES.keys()


def test_what_can_be_asked_without_a_body_is_answered(page: str) -> None:
    paths = re.findall(r'data-method="GET" data-path="([^"]+)"', page)
    assert {"/v1/models", "/health", "/metrics"} <= set(paths)

    async def main() -> list[httpx.Response]:
        async with client_over(ready_state(fake_engine())) as client:
            return [await client.get(path) for path in paths if path != "/v1/timeline"]

    assert [answer.status_code for answer in asyncio.run(main())] == [200] * (len(paths) - 1)


def test_a_field_has_its_range_default_and_words(page: str) -> None:
    words = "0 is greedy: the likeliest token."
    row = f"<td><code>temperature</code></td><td>number 0..2</td><td>1.0</td><td>{words}</td>"
    assert row in page
    assert "<td>required</td>" in page
    for _, fields in re.findall(r"<tr>(<td><code>[^<]+</code></td>)(.*?)</tr>", page):
        kind, _, told = re.findall("<td>(.*?)</td>", fields)
        assert kind
        assert told


def test_what_this_server_allows_is_what_stands_there(page: str) -> None:
    """The operator's limits, and the model's names."""
    assert "<code>stop</code></td><td>string ..256 or list ..16 of string ..256</td>" in page
    names = escape('"tiny", "org/tiny"')
    assert f"<td>{names}</td>" in page  # "" is nothing, and goes unsaid
    fewer = docs_page(create_app(ready_state(fake_engine()), ApiConfig(max_n=2)))
    assert "<code>n</code></td><td>integer 1..2</td>" in fewer


def test_a_field_of_an_object_has_them_too(page: str) -> None:
    words = "0 is greedy: the likeliest token."
    assert f"<code>options.temperature</code></td><td>number 0..2</td><td></td><td>{words}" in page
    assert "<code>options.mirostat</code></td><td>0</td><td></td><td>Not supported: " in page
    assert "<code>reasoning.effort</code>" in page
    assert "<code>stream_options.include_usage</code></td><td>boolean</td><td>false</td>" in page


def test_what_is_said_of_an_object_is_said_of_its_fields() -> None:
    schemas = document()["components"]["schemas"]
    for name, told in inner_descriptions().items():
        fields = schemas[name]["properties"]
        assert told.keys() <= fields.keys()
        assert name == "OllamaOptions" or told.keys() == fields.keys()


def test_every_route_says_what_it_is_for(page: str) -> None:
    paths = document()["paths"]
    assert paths.keys() == ROUTES.keys()
    for words in ROUTES.values():
        assert f"<p>{escape(words)}</p>" in page


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}, "integer 0.."),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "integer"),
        ({"type": "array", "maxItems": 4, "items": {"type": "string"}}, "list ..4 of string"),
        ({"anyOf": [{"type": "string"}, {"$ref": "x"}]}, "string or object"),
        ({"enum": ["a", "b", None]}, '"a", "b"'),
        ({"enum": list(range(20))}, "0, 1, 2, 3, 4, 5, 6, 7, …"),
        ({}, "value"),
        ({"enum": [None]}, "null"),
    ],
)
def test_a_kind_in_words(field: dict[str, object], words: str) -> None:
    assert kind_of(field) == words


def test_the_page_is_made_once_for_each_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask for it, and in a pipeline as often as fits."""
    made: list[object] = []
    monkeypatch.setattr(docs_page_module, "docs_page", lambda app: made.append(app) or "page")
    state = ready_state(fake_engine())

    async def main() -> None:
        async with client_over(state) as client:
            for _ in range(3):
                assert (await client.get("/docs")).text == "page"
            assert len(made) == 1
            assert state.model is not None
            state.model = replace(state.model)
            await client.get("/docs")
            assert len(made) == 2

    asyncio.run(main())

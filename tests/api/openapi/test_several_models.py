"""The document of a server of several models: it names them, and says how to name one."""

import asyncio
from html import escape

import httpx

from tests.api.pool.test_pool_app import Pooled, talk
from tests.api.support import client_of
from thirdeye.server.api.openapi.docs_page import docs_page
from thirdeye.server.api.openapi.inner_descriptions import ROUTES, ROUTES_OF_SEVERAL
from thirdeye.server.launch.asgi_app import create_app


def test_requests_name_one_of_the_models() -> None:
    schemas = Pooled(patterns=()).app.openapi()["components"]["schemas"]
    assert schemas["ChatRequest"]["properties"]["model"]["anyOf"][0]["enum"] == [*"abc", ""]
    assert schemas["ModelNameRequest"]["properties"]["model"]["enum"] == [*"abc"]


def test_where_a_name_may_be_a_pattern_s_any_may_be_right() -> None:
    assert '"enum":["a"' not in Pooled().app.document_bytes().decode()


def test_who_sends_no_body_names_a_model_where_the_document_says_so() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        for path, operations in pooled.app.openapi()["paths"].items():
            for method, operation in operations.items():
                if "requestBody" in operation or "{" in path:
                    continue
                names = [one["name"] for one in operation.get("parameters", [])]
                answer = await client.request(method, path, params={"model": "d"})
                assert ("model" in names) == (answer.status_code == 404), path
                assert str(answer.status_code) in operation["responses"], path

    talk(Pooled, test)


def test_the_page_tells_of_each_route_and_so_do_others_not() -> None:
    several, one = Pooled().app, create_app(Pooled().pool.members["a"].state)
    assert several.openapi()["paths"].keys() == (ROUTES | ROUTES_OF_SEVERAL).keys()
    assert one.openapi()["paths"].keys() == ROUTES.keys()
    for words in ROUTES_OF_SEVERAL.values():
        assert f"<p>{escape(words)}</p>" in docs_page(several)


def test_every_way_to_move_a_model_answers_as_it_says() -> None:
    async def main() -> None:
        pooled = Pooled()
        schemas = pooled.app.openapi()["components"]["schemas"]
        async with client_of(pooled.app) as client:
            for path, body in [
                ("/models/load", {"model": "b"}),
                ("/models/unload", {"model": "b"}),
                ("/wake_up", None),
                ("/sleep", None),
            ]:
                answer = (await client.post(path, json=body)).json()
                assert answer.keys() == schemas["ModelMoved"]["properties"].keys()
        await pooled.pool.close()

    asyncio.run(main())

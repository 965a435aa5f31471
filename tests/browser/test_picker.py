"""A server of several models on the page: one is picked, and its first question loads it."""

from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from tests.api.pool.fakes import member
from tests.api.threaded_server import ThreadedServer
from tests.browser.conftest import until, visit
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.pool_state import PoolState
from thirdeye.server.launch.asgi_app import create_pool_app
from thirdeye.server.transport.connection_guard import GuardedProtocol


@pytest.fixture
def url() -> Iterator[str]:
    pool = ModelPool([member(name)[0] for name in ("small", "big")], 2)
    state = PoolState(pool)
    state.ready()
    app = create_pool_app(pool, state)
    config = uvicorn.Config(
        app, port=0, lifespan="off", http=GuardedProtocol, ws="none", log_level="error"
    )
    server = ThreadedServer(config)
    yield f"http://127.0.0.1:{server.start()}"
    server.stop()


def ask(page: Any) -> None:
    page.fill("#prompt", "Who are you?")
    page.keyboard.press("Enter")


def test_a_model_is_picked_and_answers(browser: Any, url: str) -> None:
    with visit(browser, url) as seen:
        page = seen.page
        page.wait_for_selector("#picker:not([hidden])")
        assert page.locator("#picker option").all_inner_texts() == ["small", "big"]
        page.select_option("#picker", "big")
        until(page, "document.querySelector('#model').textContent.startsWith('big')")
        assert "absent: its first question loads it" in page.inner_text("#model")
        ask(page)
        page.wait_for_selector(".message.assistant .body:has-text('I am big')")
        until(page, "!document.querySelector('#model').textContent.includes('absent')")
        page.reload()
        until(page, "document.querySelector('#model').textContent.startsWith('big')")
        page.goto(url + "/#timeline")
        page.wait_for_selector(
            "#timeline-status:has-text('live'), #timeline-status:has-text('Live')"
        )

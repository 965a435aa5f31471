"""A server of several models on the page: one is picked, and its first question loads it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from tests.api.pool.fakes import member
from tests.api.support import fake_engine, says
from tests.api.threaded_server import ThreadedServer
from tests.browser.conftest import happens, until, visit
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.pool_state import PoolState
from thirdeye.server.launch.asgi_app import create_pool_app
from thirdeye.server.transport.connection_guard import GuardedProtocol


@contextmanager
def pool_of(**engines: FakeEngine) -> Iterator[str]:
    """The address of a server of these models."""
    pool = ModelPool([member(name, engine=engine)[0] for name, engine in engines.items()], 2)
    state = PoolState(pool)
    state.ready()
    app = create_pool_app(pool, state)
    config = uvicorn.Config(
        app, port=0, lifespan="off", http=GuardedProtocol, ws="none", log_level="error"
    )
    server = ThreadedServer(config)
    yield f"http://127.0.0.1:{server.start()}"
    server.stop()


@pytest.fixture
def url() -> Iterator[str]:
    with pool_of(small=fake_engine(says("I am small.")), big=fake_engine(says("I am big."))) as url:
        yield url


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


def test_an_answer_is_ended_by_the_model_that_began_it(browser: Any) -> None:
    """Though another was picked meanwhile."""
    small, big = fake_engine(says("I am small.")), fake_engine(says("I am big."), hang_after=4)
    with pool_of(small=small, big=big) as url, visit(browser, url) as seen:
        page = seen.page
        page.wait_for_selector("#picker:not([hidden])")
        page.select_option("#picker", "big")
        until(page, "document.querySelector('#model').textContent.startsWith('big')")
        ask(page)
        until(page, "document.querySelector('.assistant .body')?.innerText === 'I am'")
        page.click("#stop")
        page.select_option("#picker", "small")
        until(page, "document.querySelector('#model').textContent.startsWith('small')")
        page.click("button:has-text('Continue')")
        happens(page, lambda: len(big.requests) == 2)
        assert bytes(big.requests[1].answer_token_ids) == b"I a"
        assert small.requests == []

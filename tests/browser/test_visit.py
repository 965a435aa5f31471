"""What a visit leaves behind is not there for the next one, which has the same page."""

from typing import Any

import pytest

from tests.api.support import Served
from tests.browser.conftest import Browser, connected, happens, visit

LEAVE = """async () => {
  localStorage.setItem('left', '1');
  sessionStorage.setItem('left', '1');
  document.cookie = 'left=1';
  name = 'left';
  history.pushState(null, '', '#left');
  history.pushState(null, '', '#left/again');
  await (await caches.open('left')).put('/left', new Response('left'));
  await new Promise((done) => { indexedDB.open('left').onsuccess = done; });
}"""
STATE = """async () => ({
  local: localStorage.getItem('left'), session: sessionStorage.getItem('left'),
  cookie: document.cookie, name, entries: history.length, hash: location.hash,
  caches: await caches.keys(), stored: (await indexedDB.databases()).length,
  width: innerWidth, isDark: matchMedia('(prefers-color-scheme: dark)').matches,
  pointed: document.querySelectorAll(':hover').length, scrolled: scrollY,
  focus: document.activeElement.id,
  clipboard: (await navigator.permissions.query({name: 'clipboard-read'})).state,
})"""


def state_of(page: Any) -> dict[str, Any]:
    connected(page)
    found: dict[str, Any] = page.evaluate(STATE)
    return found


def test_nothing_is_left_for_the_next_visit(browser: Browser, shared: Served) -> None:
    with visit(browser, shared.url, is_shared=False) as seen:
        new = state_of(seen.page)
    small = {"width": 500, "height": 500}
    heard: list[str] = []
    with visit(
        browser, shared.url, viewport=small, color_scheme="dark", permissions=["clipboard-read"]
    ) as seen:
        page = seen.page
        connected(page)  # what follows may not meet the page's own first questions
        seen.on("request", lambda request: heard.append(request.url))
        page.route("**/v1/models", lambda route: route.abort())
        page.evaluate(LEAVE)
        page.hover("#prompt")
        page.fill("#prompt", "left")
        other = page.context.new_page()
        changed = state_of(page)
        assert [name for name in new if changed[name] == new[name]] == ["scrolled", "focus"]
    count = len(heard)
    assert other.is_closed()
    with visit(browser, shared.url) as seen:
        assert seen.page is page
        assert state_of(seen.page) == new
        assert seen.page.input_value("#prompt") == ""
        assert len(seen.page.context.pages) == 1
    assert len(heard) == count


def test_a_page_of_a_failed_test_is_nobody_s_again(browser: Browser, shared: Served) -> None:
    def failing(url: str) -> None:
        with visit(browser, url) as seen:
            pages.append(seen.page)
            raise ZeroDivisionError

    pages: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        failing(shared.url)
    assert pages[0].is_closed()
    with visit(browser, shared.url) as seen:
        assert seen.page is not pages[0]


def test_whoever_asks_somebody_else_fails(browser: Browser, shared: Served) -> None:
    """Whichever page it is, and though there is nobody."""

    def asking() -> None:
        with visit(browser, shared.url) as seen:
            seen.page.evaluate("void open('http://evil.example/x')")
            happens(seen.page, lambda: seen.foreign != [])

    with pytest.raises(AssertionError, match=r"http://evil\.example/x"):
        asking()

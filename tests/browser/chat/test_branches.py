"""Older versions stay: to edit a question or try an answer again adds one, and arrows lead back."""

from typing import Any

from tests.api.support import Served, fake_engine, says
from tests.browser.conftest import ENDED, LAST, WIDE, ask, ended, open_settings, texts, visit
from thirdeye.server.engine.interface.types import Request


def prompt(request: Request) -> str:
    return bytes(i for i in request.prompt_token_ids if i < 256).decode()


def numbered() -> Any:
    """An engine whose n-th answer says so."""
    count = iter(range(1, 99))
    return lambda _: says(f"Answer {next(count)}.")


def test_edit_and_retry_add_versions_that_arrows_lead_through(browser: Any, shared: Served) -> None:
    engine = shared.use(fake_engine(numbered()))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        ask(page, "First")
        page.click(f"{ENDED} button:has-text('Retry')")
        ended(page, "Answer 2.")
        assert page.inner_text(f"{LAST} .turn") == "2/2"
        assert engine.requests[0].sampling.seed != engine.requests[1].sampling.seed
        ask(page, "And then?")
        page.click(".user >> nth=0 >> button:has-text('Edit')")
        page.keyboard.type(", changed")
        page.keyboard.press("Enter")
        ended(page, "Answer 4.")
        assert texts(page) == ["First, changed", "Answer 4."]
        assert prompt(engine.requests[3]) == "user\nFirst, changedassistant\n"
        page.click(".user [aria-label='Earlier version']")
        assert texts(page) == ["First", "Answer 2.", "And then?", "Answer 3."]
        page.click(".assistant >> nth=0 >> [aria-label='Earlier version']")
        assert texts(page) == ["First", "Answer 1."]
        page.reload()
        assert texts(page) == ["First", "Answer 1."]
        assert page.locator("#chats li").count() == 1
        page.click(".assistant [aria-label='Later version']")
        assert texts(page) == ["First", "Answer 2.", "And then?", "Answer 3."]
        ask(page, "Going on")
        assert prompt(engine.requests[4]).startswith("user\nFirstassistant\nAnswer 2.user\nAnd")


def test_an_edit_that_is_not_sent_changes_nothing(browser: Any, shared: Served) -> None:
    engine = shared.use(fake_engine(says("Fine.")))
    with visit(browser, shared.url) as seen:
        page = seen.page
        ask(page, "First")
        page.press("#prompt", "ArrowUp")  # the key for it
        assert page.input_value(".editor textarea") == "First"
        page.keyboard.type(" and more")
        page.keyboard.press("Escape")
        assert texts(page) == ["First", "Fine."]
        page.click("button:has-text('Edit')")
        page.click("button:has-text('Cancel')")
        assert texts(page) == ["First", "Fine."]
        assert len(engine.requests) == 1


def test_each_chat_has_settings_of_its_own(browser: Any, shared: Served) -> None:
    """A new one begins with the default, which any chat's settings can become."""
    engine = shared.use(fake_engine(says("Fine.")))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        open_settings(page)
        page.fill("#set-system", "Be brief.")
        page.fill("#set-temperature", "0")
        ask(page, "First")
        assert prompt(engine.requests[0]) == "system\nBe brief.user\nFirstassistant\n"
        assert engine.requests[0].sampling.temperature == 0
        page.click("#clear")
        assert page.input_value("#set-system") == ""
        page.fill("#set-top_k", "7")
        page.reload()
        open_settings(page)
        assert page.input_value("#set-top_k") == "7"  # of a chat that has no message yet
        ask(page, "Second")
        assert engine.requests[1].sampling.top_k == 7
        page.click("#chats .pick:has-text('First')")
        assert page.input_value("#set-system") == "Be brief."
        page.click("#make-default")
        page.click("#clear")
        assert page.input_value("#set-system") == "Be brief."

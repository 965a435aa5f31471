"""Nothing is lost: no question, no half of an answer, no draft, no chat of an older version."""

import json
import threading
from typing import Any

import pytest

from tests.api.support import Served, fake_engine, says
from tests.browser.conftest import (
    ENDED,
    LAST,
    WIDE,
    ask,
    connected,
    ended,
    happens,
    send,
    texts,
    until,
    visit,
)

KEPT = "Object.entries(localStorage).filter(([key]) => key.startsWith('thirdeye.chat.')).join()"


def test_a_reload_goes_on_reading_the_very_answer(browser: Any, shared: Served) -> None:
    """The rest is asked for with the tokens that came and their seed: what the server would have
    drawn. The last token is drawn again, which shows that it is the same answer."""
    text = "An answer that is rather long, and then is over."
    stuck = shared.use(fake_engine(says(text), hang_after=20))
    with visit(browser, shared.url) as seen:
        page = seen.page
        send(page, "Hello")
        until(page, "document.querySelector('.assistant .body').innerText.length >= 19")
        engine = shared.use(fake_engine(says(text)))
        page.reload()
        assert texts(page, ".user .body") == ["Hello"]
        ended(page, text)
        (first,), (again,) = stuck.requests, engine.requests
        assert bytes(again.answer_token_ids) == text[:19].encode()
        assert again.sampling == first.sampling
        assert again.prompt_token_ids == first.prompt_token_ids
        assert page.locator(".message").count() == 2


def test_what_is_read_is_kept_while_it_comes(browser: Any, shared: Served) -> None:
    """The question before anything was answered, the answer as it grows: a crash asks nobody."""
    gate = threading.Event()
    shared.use(fake_engine(says("Partial and more."), hang_after=7, gate=gate))
    with visit(browser, shared.url) as seen:
        send(seen.page, "Is it kept?")
        until(seen.page, f"{KEPT}.includes('Is it kept?')")
        gate.set()
        until(seen.page, f"{KEPT}.includes('Partial')")


def test_another_build_goes_on_by_the_text(browser: Any, shared: Served) -> None:
    """Its tokens are others, so what came is sent as text, to be continued."""
    shared.use(fake_engine(says("One two three."), hang_after=8))
    with visit(browser, shared.url) as seen:
        page = seen.page
        send(page, "Count")
        until(page, "document.querySelector('.assistant .body').innerText.includes('One two')")
        engine = shared.use(fake_engine(says("-and-more")), fingerprint="te-other")
        page.reload()
        page.wait_for_selector(f"{ENDED} .body:has-text('and-more')")
        assert texts(page, f"{LAST} .body") == ["One two -and-more"]
        prompt = bytes(i for i in engine.requests[-1].prompt_token_ids if i < 256).decode()
        assert prompt.rstrip().endswith("assistant\nOne two")


def test_an_answer_goes_on_while_another_chat_is_open(browser: Any, shared: Served) -> None:
    shared.use(fake_engine(says("x" * 60), delay=0.02))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        send(page, "First")
        until(page, "document.querySelector('.assistant .body').innerText.length > 1")
        page.click("#clear")
        assert page.locator(".message").count() == 0
        page.click("#chats .pick:has-text('First')")
        ended(page, "x" * 60)


def test_two_tabs_read_an_answer_once(browser: Any, shared: Served) -> None:
    """The second one waits, shows what the first one keeps, and goes on when that is closed."""
    shared.use(fake_engine(says("Once, and for all."), hang_after=5))
    with visit(browser, shared.url, is_shared=False) as seen:
        send(seen.page, "Hello")
        until(seen.page, f"{KEPT}.includes('Once,')")
        engine = shared.use(fake_engine(says("Once, and for all.")))
        other = seen.page.context.new_page()
        other.goto(shared.url)
        connected(other)
        until(other, "document.querySelector('.assistant .body').innerText === 'Once,'")
        assert engine.requests == []
        seen.page.close()
        ended(other, "Once, and for all.")
        assert len(engine.requests) == 1


def test_an_answer_is_stopped_from_another_tab(browser: Any, shared: Served) -> None:
    """One that waits for it; both keep what came."""
    stuck = shared.use(fake_engine(says("Stop this one."), hang_after=4))
    with visit(browser, shared.url) as seen:
        page = seen.page
        send(page, "Read by two")
        until(page, f"{KEPT}.includes('Stop')")
        other = page.context.new_page()
        other.goto(shared.url)
        until(other, "document.querySelectorAll('.waiting').length === 1")
        other.click("#stop")
        for tab in (other, page):
            until(tab, "document.querySelectorAll('.waiting').length === 0")
            assert "stopped by you" in tab.inner_text(".assistant .note")
            assert tab.inner_text(".assistant .body") == "Stop"
        happens(page, lambda: shared.settled(stuck))


def test_a_chat_deleted_in_one_tab_is_not_brought_back_by_another(
    browser: Any, shared: Served
) -> None:
    """The tab that waited for its answer does not go on with it, nor does one that was reading."""
    stuck = shared.use(fake_engine(says("Going on."), hang_after=4))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        send(page, "Read by two")
        until(page, "document.querySelector('.assistant .body').innerText.length >= 3")
        other = page.context.new_page()
        other.goto(shared.url)
        until(other, "document.querySelectorAll('.waiting').length === 1")
        page.click("[aria-label^='Delete']")
        until(other, "document.querySelectorAll('.waiting').length === 0")
        assert "stopped" in other.inner_text(".assistant .note")
        assert len(stuck.requests) == 1
        assert page.evaluate(KEPT) == ""
        page.click("text=Undo")
        page.click("text=Continue")
        until(page, "document.querySelectorAll('.waiting').length === 1")
        other.reload()
        until(other, "document.querySelectorAll('.waiting').length === 1")
        other.click("[aria-label^='Delete']")  # not by the one that reads
        until(page, "document.querySelectorAll('.waiting').length === 0")
        happens(page, lambda: shared.settled(stuck))
        assert page.evaluate(KEPT) == ""


HEARS_LATE = """
const read = Storage.prototype.getItem;
const old = new Map();
addEventListener("storage", (event) => {
  if (event.isLate) return;
  event.stopImmediatePropagation();
  if (!old.has(event.key)) old.set(event.key, event.oldValue);
  setTimeout(() => {
    old.delete(event.key);
    const { key, newValue } = event;
    dispatchEvent(Object.assign(new StorageEvent("storage", { key, newValue }), { isLate: true }));
  }, 300);
});
Storage.prototype.getItem = function (key) {
  return old.has(key) ? old.get(key) : read.call(this, key);
};
"""  # What another tab writes is seen by this one 300 ms later.


@pytest.mark.parametrize("end", ["deleted", "stopped", "read to its end"])
def test_a_tab_that_hears_late_does_not_ask_again(browser: Any, shared: Served, end: str) -> None:
    """Browsers tell a tab of another's writes when they please, and hand on a lock at once."""
    gate, is_whole = threading.Event(), end == "read to its end"
    engine = shared.use(
        fake_engine(says("On it goes."), gate=gate, hang_after=None if is_whole else 4)
    )
    if not is_whole:
        gate.set()
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        send(page, "Read by two")
        other = page.context.new_page()
        other.add_init_script(HEARS_LATE)
        other.goto(shared.url)
        connected(other)
        until(other, "document.querySelectorAll('.waiting').length === 1")
        if end == "deleted":
            page.click("[aria-label^='Delete']")
        elif end == "stopped":
            page.click("#stop")
        else:
            gate.set()
        until(other, "document.querySelectorAll('.waiting').length === 0")
        assert len(engine.requests) == 1


def test_drafts_and_chats_of_version_1_are_kept(browser: Any, shared: Served) -> None:
    shared.use(fake_engine(says("Fine.")))
    old = [
        {"id": "a", "title": "Old", "updated": 2, "messages": [
            {"role": "user", "content": "Old question"},
            {"role": "assistant", "content": "Old answer", "note": "9 tokens"}]},
    ]  # fmt: skip
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        page.evaluate("[localStorage, sessionStorage].forEach((store) => store.clear())")
        page.evaluate("(old) => localStorage.setItem('thirdeye.chats', old)", json.dumps(old))
        page.reload()
        assert texts(page) == ["Old question", "Old answer"]
        assert page.inner_text(f"{LAST} .note") == "9 tokens"
        page.fill("#prompt", "half a thought")
        page.click("#clear")
        page.fill("#prompt", "another")
        page.reload()
        assert (page.input_value("#prompt"), page.locator(".message").count()) == ("another", 0)
        page.click("#chats .pick")
        assert page.input_value("#prompt") == "half a thought"
        ask(page, "sent")
        assert page.input_value("#prompt") == ""
        assert page.locator(".message").count() == 4


def test_a_browser_that_is_full_says_so(browser: Any, shared: Served) -> None:
    """And the chat goes on, on screen; no other chat is dropped for it."""
    shared.use(fake_engine(says("Fine.")))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        ask(page, "Before")
        fill = """() => { try { for (let n = 2 ** 20; n >= 1; n /= 2) for (;;) {
            localStorage.setItem('filler' + Math.random(), 'x'.repeat(n)); if (n < 1) break;
          } } catch {} }"""
        for _ in range(21):
            page.evaluate(fill.replace("2 ** 20", str(2 ** (20 - _))))
        page.click("#clear")
        ask(page, "After")
        assert "keeps no more chats" in page.inner_text("#notice")
        assert texts(page) == ["After", "Fine."]
        page.reload()
        assert texts(page) == ["Before", "Fine."]

"""The chat in a real browser: streams, thoughts, the ends of answers in true words, the key."""

import threading
from typing import Any

import pytest

from tests.api.reasoning.thinker import ANSWER, prompt_of, thinking_server
from tests.api.support import Served, fake_engine, live, ready_state, says
from tests.browser.conftest import (
    ENDED,
    LAST,
    WIDE,
    ask,
    connected,
    ended,
    open_settings,
    send,
    texts,
    until,
    visit,
)
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.generation_defaults import GenerationDefaults


def test_an_answer_streams_and_is_formatted(browser: Any, shared: Served) -> None:
    """Markdown as elements, numbers while it streams, timings when it is done."""
    shared.use(fake_engine(says("Use **bold** and `code`:\n\n```py\nx = 1\n```\n- one\n- two")))
    with visit(browser, shared.url) as seen:
        ask(seen.page, "Hello")
        seen.page.wait_for_selector(f"{ENDED} .note:has-text('first after')")
        answer = seen.page.locator(LAST)
        assert answer.locator("strong").inner_text() == "bold"
        assert answer.locator("pre code").inner_text() == "x = 1"
        assert answer.locator("li").all_inner_texts() == ["one", "two"]
        assert seen.page.locator(".message.user .body").inner_text() == "Hello"


def test_thoughts_are_folded_when_the_answer_begins(browser: Any) -> None:
    """They can be unfolded, and go back to the model with the answer; or are not wanted at all."""
    with thinking_server() as thinker, visit(browser, thinker.url, **WIDE) as seen:
        engine = thinker.use(fake_engine(ANSWER))
        ask(seen.page, "Hello")
        thought = seen.page.locator(f"{LAST} .thought")
        assert texts(seen.page, f"{LAST} .body") == ["Hello!"]
        assert thought.locator("summary").inner_text() == "Thought"
        assert not thought.locator("div").is_visible()
        thought.locator("summary").click()
        assert thought.locator("div").inner_text() == "Let me see."
        open_settings(seen.page)
        seen.page.select_option("#set-thinking", "off")
        send(seen.page, "And?")
        until(seen.page, "document.querySelectorAll('.assistant:not(.waiting)').length == 2")
        assert "<think>Let me see.</think>Hello!" in prompt_of(engine)
        assert prompt_of(engine).endswith("<think>\n\n</think>\n\n")


def test_a_limit_that_cut_an_answer_is_named_and_can_be_gone_beyond(
    browser: Any, shared: Served
) -> None:
    """An answer without its end should not pass for a whole one; Continue draws the next tokens."""
    engine = shared.use(fake_engine(says("one two three four")))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        open_settings(page)
        page.fill("#set-max_tokens", "7")
        ask(page, "Hello")
        said = page.inner_text(f"{LAST} .note")
        assert said.startswith("cut at the limit of 7 tokens, Max tokens in the settings · 7 ")
        assert engine.requests[0].sampling.frequency_penalty == pytest.approx(0.3)
        for so_far in ("one two three ", "one two three four"):
            page.click(f"{ENDED} button:has-text('Continue')")
            ended(page, so_far.strip())
        assert not page.inner_text(f"{LAST} .note").startswith("cut")
        assert page.locator("button:has-text('Continue')").count() == 0
        assert len({request.sampling.seed for request in engine.requests}) == 1
        known = [bytes(request.answer_token_ids) for request in engine.requests]
        assert known == [b"", b"one tw", b"one two three"]
        assert page.locator(".message").count() == 2


def test_a_limit_of_the_server_is_gone_beyond(browser: Any, shared: Served) -> None:
    """Where the model's files say how long an answer is."""
    text = "one two three"
    shared.use(fake_engine(says(text)), defaults=GenerationDefaults(max_tokens=5))
    with visit(browser, shared.url) as seen:
        ask(seen.page, "Hello")
        note = seen.page.inner_text(f"{LAST} .note")
        assert note.startswith("cut at the server's limit of tokens · 5 tokens")
        for so_far in (text[:10], text):
            seen.page.click(f"{ENDED} button:has-text('Continue')")
            ended(seen.page, so_far)


def test_a_full_context_is_named_and_offers_no_more(browser: Any, shared: Served) -> None:
    shared.use(fake_engine(lambda _: b"word " * 200))
    with visit(browser, shared.url) as seen:
        send(seen.page, "Hello")
        seen.page.wait_for_selector(f"{ENDED} .note:has-text('fills all 512 tokens')")
        assert seen.page.locator("button:has-text('Continue')").count() == 0


def test_stop_ends_the_engines_work_keeps_what_came_and_goes_on(
    browser: Any, shared: Served
) -> None:
    stuck = shared.use(fake_engine(lambda _: b"word " * 90, hang_after=20))
    with visit(browser, shared.url) as seen:
        page = seen.page
        send(page, "Go on and on")
        until(page, "document.querySelector('.assistant .body').innerText.length > 9")
        page.click("#stop")
        page.wait_for_selector(f"{ENDED} .note:has-text('stopped by you')")
        kept = texts(page, f"{LAST} .body")[0]
        assert kept.startswith("word word")
        until(page, "document.querySelector('#stop').hidden")
        assert len(stuck.aborted) == 1
        engine = shared.use(fake_engine(says("word " * 5)))
        page.click(f"{LAST} button:has-text('Continue')")
        ended(page, "word word word word word")
        assert bytes(engine.requests[0].answer_token_ids) in b"word " * 5
        assert len(engine.requests[0].answer_token_ids) >= len(kept) - 1


def test_the_end_of_an_answer_moves_nobody(browser: Any, shared: Served) -> None:
    """Who has scrolled up to read stays there when the answer ends."""
    gate = threading.Event()
    long = "\n\n".join(f"paragraph {i}" for i in range(30))
    shared.use(fake_engine(says(long)))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        ask(page, "Hello")
        shared.use(fake_engine(says("Short."), gate=gate))
        send(page, "More")
        page.wait_for_selector(f"{LAST}.waiting")
        page.evaluate("document.querySelector('#log').scrollTop = 40")
        gate.set()
        ended(page, "Short.")
        assert page.evaluate("document.querySelector('#log').scrollTop") == 40


def test_an_error_of_the_engine_is_shown(browser: Any, shared: Served) -> None:
    shared.use(fake_engine(says("Half an answer"), error_after=4))
    with visit(browser, shared.url) as seen:
        send(seen.page, "Hello")
        seen.page.wait_for_selector(".note.error:has-text('broke off: The engine failed')")
        assert texts(seen.page, f"{LAST} .body") == ["Half"]


LOST = """async () => {
  const { readEvents } = await import('/web/sse.js');
  const body = new ReadableStream({ start: (own) => own.error(new TypeError('network error')) });
  try {
    for await (const _ of readEvents({ body }));
  } catch (error) {
    return error.message;
  }
}"""


def test_a_lost_connection_is_told_in_words_and_gone_on_from(browser: Any, shared: Served) -> None:
    """Not in those of the browser."""
    shared.use(fake_engine(says("There.")))
    with visit(browser, shared.url) as seen:
        page = seen.page
        connected(page)
        page.route("**/v1/chat/completions", lambda route: route.abort())
        send(page, "Hello?")
        page.wait_for_selector(".note:has-text('broke off: The server cannot be reached.')")
        seen.errors.clear()  # the browser's own line about it
        page.unroute_all()
        page.click("text=Continue")
        ended(page, "There.")
        assert page.evaluate(LOST) == "The connection to the server was lost."


def test_the_key_is_asked_for_and_stays_in_the_tab(browser: Any) -> None:
    """sessionStorage alone: not in the address, not where other tabs or restarts find it."""
    state = ready_state(fake_engine(says("Fine.")))
    with live(state, ApiConfig(api_keys=("sesame",))) as url, visit(browser, url) as seen:
        seen.page.wait_for_selector("#key-dialog[open]")
        seen.errors.clear()  # Chromium itself reports the 401
        seen.page.fill("#key", "sesame")
        seen.page.keyboard.press("Enter")
        ask(seen.page, "Hello")
        assert "sesame" not in seen.page.url
        assert "sesame" not in seen.page.evaluate("JSON.stringify(localStorage)")
        assert seen.page.evaluate("sessionStorage.getItem('key')") == "sesame"


def test_the_settings_show_what_the_model_suggests(browser: Any, shared: Served) -> None:
    """And nothing is asked for in its place."""
    suggested = GenerationDefaults(temperature=0.7, top_k=20)
    engine = shared.use(fake_engine(says("Hi")), defaults=suggested)
    with visit(browser, shared.url) as seen:
        seen.page.wait_for_selector("#model.known")
        names = ("temperature", "top_p", "top_k", "frequency_penalty")
        shown = [seen.page.get_attribute(f"#set-{name}", "placeholder") for name in names]
        assert shown == ["0.7", "1", "20", "off"]
        ask(seen.page, "Hello")
        sampling = engine.requests[0].sampling
        assert (sampling.temperature, sampling.top_k, sampling.frequency_penalty) == (0.7, 20, 0)

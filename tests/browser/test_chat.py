"""The chat in a real browser: stream, stop, retry, edit, history, key."""

from typing import Any

import pytest

from tests.api.reasoning.thinker import ANSWER, prompt_of, thinking_server
from tests.api.support import fake_engine, live, ready_state, says
from tests.browser.conftest import connected, served, until, visit
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.generation_defaults import GenerationDefaults

LAST = ".message.assistant:last-child"


def send(page: Any, text: str) -> None:
    connected(page)
    page.fill("#prompt", text)
    page.keyboard.press("Enter")


def test_an_answer_streams_and_is_formatted(browser: Any) -> None:
    """Markdown as elements, numbers while it streams, timings when it is done."""
    text = "Use **bold** and `code`:\n\n```py\nx = 1\n```\n- one\n- two"
    with served(says(text)) as (url, _), visit(browser, url) as seen:
        send(seen.page, "Hello")
        seen.page.wait_for_selector(f"{LAST}:not(.waiting) .note:has-text('tokens/s')")
        answer = seen.page.locator(LAST)
        assert answer.locator("strong").inner_text() == "bold"
        assert answer.locator("pre code").inner_text() == "x = 1"
        assert answer.locator("li").all_inner_texts() == ["one", "two"]
        assert "first after" in answer.locator(".note").inner_text()
        assert seen.page.locator(".message.user .body").inner_text() == "Hello"


def test_thoughts_are_folded_when_the_answer_begins(browser: Any) -> None:
    """They can be unfolded, and go back to the model with the answer."""
    with thinking_server() as thinker, visit(browser, thinker.url) as seen:
        engine = thinker.use(fake_engine(ANSWER))
        send(seen.page, "Hello")
        seen.page.wait_for_selector(f"{LAST}:not(.waiting) .note:has-text('tokens/s')")
        thought = seen.page.locator(f"{LAST} .thought")
        assert seen.page.locator(f"{LAST} .body").inner_text() == "Hello!"
        assert thought.locator("summary").inner_text() == "Thought"
        assert not thought.locator("div").is_visible()
        thought.locator("summary").click()
        assert thought.locator("div").inner_text() == "Let me see."
        send(seen.page, "And?")
        until(seen.page, "document.querySelectorAll('.assistant:not(.waiting)').length == 2")
        assert "<think>Let me see.</think>Hello!" in prompt_of(engine)


def test_an_answer_that_was_cut_says_so(browser: Any) -> None:
    """An answer without its end should not pass for a whole one."""
    with served(list(b"word " * 90)) as (url, engine), visit(browser, url) as seen:
        seen.page.set_viewport_size({"width": 1200, "height": 800})
        seen.page.click("#settings summary")
        seen.page.fill("#set-max_tokens", "7")
        send(seen.page, "Hello")
        seen.page.wait_for_selector(f"{LAST}:not(.waiting) .note:has-text('cut: no room for more')")
        assert seen.page.locator(f"{LAST} .body").inner_text() == "word wo"
        assert engine.requests[0].sampling.frequency_penalty == pytest.approx(0.3)


def test_stop_ends_the_engines_work_and_keeps_what_came(browser: Any) -> None:
    with served(lambda _: b"word " * 90, delay=0.02, hang_after=20) as (url, engine):
        with visit(browser, url) as seen:
            send(seen.page, "Go on and on")
            seen.page.wait_for_selector(f"{LAST} .note:has-text('tokens')")
            until(seen.page, "document.querySelector('.assistant .body').innerText.length > 9")
            seen.page.click("#stop")
            seen.page.wait_for_selector(f"{LAST} .note:has-text('stopped')")
            assert seen.page.locator(f"{LAST} .body").inner_text().startswith("word word")
            until(seen.page, "document.querySelector('#stop').hidden")
        assert len(engine.aborted) == 1


def test_retry_edit_history_and_system_prompt(browser: Any) -> None:
    """What is sent again is what is on the screen; a reload finds the chat where it was."""
    with served(says("Fine.")) as (url, engine), visit(browser, url) as seen:
        page = seen.page
        page.set_viewport_size({"width": 1200, "height": 800})
        page.click("#settings summary")
        page.fill("#set-system", "Be brief.")
        page.fill("#set-temperature", "0")
        send(page, "First")
        page.click(f"{LAST}:not(.waiting) button:has-text('Retry')")
        until(page, "document.querySelectorAll('.assistant:not(.waiting) .note').length === 1")
        page.wait_for_selector(f"{LAST}:not(.waiting) .note:has-text('tokens/s')")
        assert len(engine.requests) == 2
        prompt = bytes(i for i in engine.requests[1].prompt_token_ids if i < 256).decode()
        assert prompt == "system\nBe brief.user\nFirstassistant\n"
        assert engine.requests[1].sampling.temperature == 0
        page.click(".message.user button:has-text('Edit')")
        assert page.input_value("#prompt") == "First"
        send(page, "Second")
        page.wait_for_selector(f"{LAST}:not(.waiting) .note:has-text('tokens/s')")
        page.reload()
        page.wait_for_selector(".message.user")
        assert page.locator(".message.user .body").all_inner_texts() == ["Second"]
        assert page.locator("#chats li").count() == 1
        page.click("#clear")
        assert page.locator(".message").count() == 0


def test_an_error_of_the_engine_is_shown(browser: Any) -> None:
    with served(says("Half an answer"), error_after=4) as (url, _), visit(browser, url) as seen:
        send(seen.page, "Hello")
        seen.page.wait_for_selector(".note.error:has-text('failed on purpose')")


def test_the_key_is_asked_for_and_stays_in_the_tab(browser: Any) -> None:
    """sessionStorage alone: not in the address, not where other tabs or restarts find it."""
    state = ready_state(fake_engine(says("Fine.")))
    with live(state, ApiConfig(api_keys=("sesame",))) as url, visit(browser, url) as seen:
        seen.page.wait_for_selector("#key-dialog[open]")
        seen.errors.clear()  # Chromium itself reports the 401
        seen.page.fill("#key", "sesame")
        seen.page.keyboard.press("Enter")
        send(seen.page, "Hello")
        seen.page.wait_for_selector(f"{LAST}:not(.waiting) .note:has-text('tokens/s')")
        assert "sesame" not in seen.page.url
        assert "sesame" not in seen.page.evaluate("JSON.stringify(localStorage)")
        assert seen.page.evaluate("sessionStorage.getItem('key')") == "sesame"


def test_the_settings_show_what_the_model_suggests(browser: Any) -> None:
    """And nothing is asked for in its place."""
    engine = fake_engine(says("Hi"))
    state = ready_state(engine, defaults=GenerationDefaults(temperature=0.7, top_k=20))
    with live(state) as url, visit(browser, url) as seen:
        seen.page.wait_for_selector("#model.known")
        shown = [
            seen.page.get_attribute(f"#set-{name}", "placeholder")
            for name in ("temperature", "top_p", "top_k", "frequency_penalty")
        ]
        assert shown == ["0.7", "1", "20", "off"]
        send(seen.page, "Hello")
        seen.page.wait_for_selector(f"{LAST}:not(.waiting) .note:has-text('first after')")
        sampling = engine.requests[0].sampling
        assert (sampling.temperature, sampling.top_k, sampling.frequency_penalty) == (0.7, 20, 0)

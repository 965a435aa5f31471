"""The boxes of `/docs`: what is in one is sent, and the answer shown as it comes."""

from typing import Any

from tests.browser.conftest import served, until, visit

CHAT = ".trial[data-path='/v1/chat/completions']"
MODELS = ".trial[data-path='/v1/models']"


def text_of(trial: str, part: str = "pre") -> str:
    """Of a box, in JavaScript."""
    return f'document.querySelector("{trial} {part}").textContent'


def test_a_request_is_tried(browser: Any) -> None:
    with served() as (url, engine), visit(browser, url, "/docs") as found:
        for trial, ends in ((CHAT, "[DONE]"), (MODELS, "max_model_len")):
            box = found.page.locator(trial)
            box.locator("summary").click()
            box.get_by_role("button").click()
            until(
                found.page, f'document.querySelector("{trial} pre").textContent.includes("{ends}")'
            )
        assert "chat.completion.chunk" in found.page.locator(f"{CHAT} pre").inner_text()
        assert engine.requests[0].sampling.max_tokens == 32


def test_an_answer_is_stopped_by_hand(browser: Any) -> None:
    with served([65] * 400, delay=0.05) as (url, engine), visit(browser, url, "/docs") as found:
        box = found.page.locator(CHAT)
        box.locator("summary").click()
        box.locator("textarea").fill(
            '{"messages": [{"role": "user", "content": "Hi"}], "stream": true}'
        )
        box.get_by_role("button").click()
        until(found.page, f"{text_of(CHAT)}.includes('A')")
        box.get_by_role("button").click()
        until(found.page, f"{text_of(CHAT)}.endsWith('(stopped)')")
        until(found.page, f"{text_of(CHAT, 'button')} === 'Send'")
        assert len(engine.requests) == 1

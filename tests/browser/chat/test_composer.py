"""The box: files as text, tokens of the draft, calls of tools and their results, honest copying."""

from pathlib import Path
from typing import Any

from tests.api.reasoning.thinker import SWITCHED, prompt_of
from tests.api.support import ByteTokenizer, Served, fake_engine, live, ready_state, says
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
from thirdeye.server.text.templates.chat_template import ChatTemplate

TOOLS = """[{"type": "function", "function": {"name": "weather", "parameters": {
  "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]"""
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def test_text_files_go_with_a_message(browser: Any, shared: Served, tmp_path: Path) -> None:
    engine = shared.use(fake_engine(says("Read.")))
    (tmp_path / "notes.md").write_text("line one\n```\nfence\n```\n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with visit(browser, shared.url) as seen:
        page = seen.page
        connected(page)
        page.set_input_files("#attach-file", [tmp_path / "image.png", tmp_path / "notes.md"])
        page.wait_for_selector("#draft-files .chip:has-text('notes.md')")
        assert page.locator("#draft-files .chip").count() == 1
        assert "image.png is no text" in page.inner_text("#notice")
        page.reload()
        assert "notes.md" in page.inner_text("#draft-files")
        ask(page, "Sum it up")
        assert page.locator("#draft-files .chip").count() == 0
        page.click(".file summary")
        assert page.inner_text(".file pre").startswith("line one")
        prompt = "user\nnotes.md:\n````\nline one\n```\nfence\n```\n````\n\nSum it up"
        assert prompt in prompt_of(engine).replace("|", "")


DROPPED = """(type) => {
  const data = new DataTransfer();
  if (type === 'Files') data.items.add(new File(['one'], 'dropped.txt'));
  else data.setData(type, 'some words');
  return ['dragover', 'drop'].map((name) => {
    const event = new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true });
    document.querySelector('#prompt').dispatchEvent(event);
    return event.defaultPrevented;
  });
}"""


def test_files_are_taken_and_text_goes_where_it_is_dropped(browser: Any, shared: Served) -> None:
    with visit(browser, shared.url) as seen:
        page = seen.page
        assert page.evaluate(DROPPED, "text/plain") == [False, False]  # the browser puts it there
        assert page.evaluate(DROPPED, "Files") == [True, True]
        page.wait_for_selector("#draft-files .chip:has-text('dropped.txt')")


def test_the_tokens_of_a_draft_are_counted(browser: Any, shared: Served) -> None:
    """With all that would be sent with it; a draft that is too long is told before it is sent."""
    shared.use(fake_engine(says("Fine.")))
    with visit(browser, shared.url) as seen:
        page = seen.page
        connected(page)
        page.fill("#prompt", "12345")
        until(page, "document.querySelector('#draft-tokens').textContent === '22 of 512 tokens'")
        page.fill("#prompt", "x" * 600)
        wanted = "617 tokens: 106 too many for this model"
        until(page, f"document.querySelector('#draft-tokens').textContent === '{wanted}'")
        page.fill("#prompt", "")
        assert page.inner_text("#draft-tokens") == ""


def test_calls_are_shown_as_calls_and_answered(browser: Any, shared: Served) -> None:
    template = ChatTemplate(SWITCHED, ByteTokenizer())  # it prints the tools
    shared.use(fake_engine(says(CALL)), template=template)
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        open_settings(page)
        page.fill("#set-tools", "{")
        assert "no JSON" in page.inner_text("#tools-note")
        page.fill("#set-tools", TOOLS)
        send(page, "How is Oslo?")
        page.wait_for_selector(f"{ENDED} .results")
        assert page.inner_text(f"{LAST} .call p") == "Calls weather"
        assert page.inner_text(f"{LAST} .call code.hljs, {LAST} .call pre") == (
            '{\n  "city": "Oslo"\n}'
        )
        assert texts(page, f"{LAST} > .body") == [""]
        engine = shared.use(fake_engine(says("Rain.")), template=template)
        page.fill(".results textarea", "rain, 4 degrees")
        page.click(".results button")
        ended(page, "Rain.")
        assert "tool\nrain, 4 degrees" in prompt_of(engine)
        assert "Result of weather: rain, 4 degrees" in texts(page)


def test_copy_says_the_truth(browser: Any, shared: Served) -> None:
    """With a clipboard, without one (plain HTTP), and where nothing can copy."""
    shared.use(fake_engine(says("Copy **this**.")))
    with visit(browser, shared.url, permissions=["clipboard-read", "clipboard-write"]) as seen:
        page = seen.page
        ask(page, "Hello")
        copy = page.locator(f"{LAST} .actions button").first
        clipboard = "navigator.clipboard.readText()"
        copy.click()
        page.wait_for_selector(f"{LAST} button:has-text('Copied')")
        assert page.evaluate(clipboard) == "Copy **this**."
        page.evaluate("Object.defineProperty(navigator.clipboard, 'writeText', {value: undefined})")
        page.locator(".user .actions button").first.click()
        page.wait_for_selector(".user button:has-text('Copied')")
        assert page.evaluate(clipboard) == "Hello"
        page.evaluate("document.execCommand = () => false")
        copy.click()
        page.wait_for_selector(f"{LAST} button:has-text('Not copied')")
        assert page.evaluate("getSelection().toString()").strip() == "Copy this."
        assert page.evaluate(clipboard) == "Hello"
        assert "press Ctrl+C" in copy.inner_text()
        page.evaluate("Object.defineProperty(navigator, 'platform', {value: 'MacIntel'})")
        copy.click()
        page.wait_for_selector(f"{LAST} button:has-text('press \N{PLACE OF INTEREST SIGN}C')")


def test_plain_http_needs_no_secure_context(browser: Any) -> None:
    """On another machine's address there is no clipboard, no locks and no randomUUID."""
    state = ready_state(fake_engine(says("Fine.")))
    hide = """Object.defineProperty(navigator, 'locks', {value: undefined});
      Object.defineProperty(navigator, 'clipboard', {value: undefined});
      crypto.randomUUID = undefined;"""
    with live(state) as url, visit(browser, url, is_shared=False) as seen:
        seen.page.context.add_init_script(hide)
        seen.page.reload()
        ask(seen.page, "Hello")
        seen.page.locator(f"{LAST} .actions button").first.click()
        seen.page.wait_for_selector(f"{LAST} button:has-text('opied')")
        seen.page.reload()
        assert texts(seen.page) == ["Hello", "Fine."]

"""The drawer: chats are found, named, saved as files, read from files, deleted and got back."""

import json
from pathlib import Path
from typing import Any

from tests.api.support import Served, fake_engine, says
from tests.browser.conftest import WIDE, ask, connected, texts, until, visit

PICKS = "#chats .pick"


def test_rename_search_delete_and_undo(browser: Any, shared: Served) -> None:
    shared.use(fake_engine(says("A needle in the hay.")))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        ask(page, "One")
        shared.use(fake_engine(says("Fine.")))
        page.click("#clear")
        ask(page, "Two")
        page.click("[aria-label='Rename: Two']")
        page.fill("#chats input", "A better name")
        page.keyboard.press("Enter")
        assert texts(page, PICKS) == ["A better name", "One"]
        ask(page, "more")
        page.reload()
        assert texts(page, PICKS) == ["A better name", "One"]
        page.fill("#search", "NEEDLE")
        assert texts(page, PICKS) == ["One"]
        page.fill("#search", "nowhere")
        assert page.is_visible("#chats-empty")
        page.fill("#search", "")
        page.click("[aria-label='Delete: A better name']")
        assert (texts(page, PICKS), texts(page)) == (["One"], [])
        page.click("#notice button:has-text('Undo')")
        assert texts(page, PICKS) == ["A better name", "One"]
        assert texts(page) == ["Two", "Fine.", "more", "Fine."]


def test_export_and_import(browser: Any, shared: Served, tmp_path: Path) -> None:
    """What goes out comes in again, versions and all; what is here already is not doubled."""
    shared.use(fake_engine(says("Fine.")))
    saved, markdown = tmp_path / "chats.json", tmp_path / "chat.md"
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        ask(page, "Keep this")
        page.click("button:has-text('Retry')")
        page.wait_for_selector(".assistant:not(.waiting) .turn")
        for button, path in (("#export", saved), ("[title='Save as Markdown']", markdown)):
            with page.expect_download() as download:
                page.click(button)
            download.value.save_as(path)
        page.click(".assistant [aria-label='Earlier version']")
        page.set_input_files("#import-file", saved)
        page.wait_for_selector("#notice:has-text('0 chats came in')")
        assert (page.locator(PICKS).count(), page.inner_text(".turn")) == (1, "1/2")
    assert markdown.read_text() == "# Keep this\n\n## You\n\nKeep this\n\n## Answer\n\nFine.\n"
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        page.set_input_files("#import-file", saved)
        page.click(f"{PICKS}:has-text('Keep this')")
        assert texts(page) == ["Keep this", "Fine."]
        assert page.inner_text(".assistant .turn") == "2/2"


def test_files_of_others_and_files_that_lie(browser: Any, shared: Served, tmp_path: Path) -> None:
    """A list of messages is a chat; what is none is refused, and what is half of one is mended."""
    cases = {
        "no.json": ("no JSON", "no.json is no JSON."),
        "empty.json": (json.dumps({"chats": []}), "holds no chat"),
        "odd.json": (json.dumps([None, 5, {"messages": 7}]), "holds no chat"),
        "messages.json": (
            json.dumps({"messages": [{"role": "user", "content": "Hi"},
                                     {"role": "assistant", "content": "<b>Hello</b>"}]}),
            "1 chat came in",
        ),
        "parts.json": (
            json.dumps({"title": "Of parts", "messages": [{"role": "user", "content": [
                {"type": "text", "text": "Two"}, {"type": "image_url", "image_url": {"url": "x"}},
                "parts"]}, {"role": "assistant", "content": {"text": 5}, "reasoning": [{}]}]}),
            "1 chat came in",
        ),
        "lies.json": (
            json.dumps({"id": "x", "messages": {
                "a": {"id": "a", "parent": "", "role": "user", "content": "Mended", "files": 5},
                "b": {"id": "b", "parent": "a", "role": "assistant", "content": {}, "calls": [1]},
                "c": {"id": "c", "parent": "d", "role": "tool", "content": "x"},
                "d": {"id": "d", "parent": "c", "role": "robot"}}, "chosen": {"a": "c"}}),
            "1 chat came in",
        ),
    }  # fmt: skip
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        connected(page)
        for name, (content, says_so) in cases.items():
            (tmp_path / name).write_text(content)
            page.set_input_files("#import-file", tmp_path / name)
            page.wait_for_selector(f"#notice:has-text('{says_so}')")
        page.click(f"{PICKS}:has-text('Hi')")
        assert texts(page) == ["Hi", "<b>Hello</b>"]
        page.click(f"{PICKS}:has-text('Of parts')")
        assert texts(page) == ["Two\n\nparts", ""]
        page.click(f"{PICKS} >> nth=0")
        page.click(f"{PICKS} >> nth=1")
        assert page.locator(".message").count() >= 2


def test_a_file_cannot_lead_a_chat_in_a_circle(
    browser: Any, shared: Served, tmp_path: Path
) -> None:
    """A chat that is here keeps its order, whatever a file says of the same messages."""

    def chat(*links: tuple[str, str]) -> str:
        messages = {
            own: {"id": own, "parent": parent, "role": "user", "content": f"is {own}"}
            for parent, own in links
        }
        return json.dumps({"id": "x", "messages": messages, "chosen": dict(links)})

    (tmp_path / "first.json").write_text(chat(("", "a"), ("a", "b")))
    (tmp_path / "second.json").write_text(chat(("", "b"), ("b", "c"), ("c", "a")))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        connected(page)
        for name, shown in (("first", ["is a", "is b"]), ("second", ["is a", "is b", "is c"])):
            page.set_input_files("#import-file", tmp_path / f"{name}.json")
            page.wait_for_selector("#notice:has-text('1 chat came in')")
            page.click("#notice button")
            page.click(f"{PICKS}:has-text('is a')")
            until(page, f"document.querySelectorAll('.message').length === {len(shown)}")
            assert texts(page) == shown


def test_the_drawer_survives_every_resize(browser: Any, shared: Served) -> None:
    """On a wide screen it stands there, on a narrow one a button opens it, in any order."""
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        connected(page)
        for width, is_open in ((1280, True), (390, False), (1280, True), (700, False)):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.is_visible("#history") == is_open, width
            assert page.is_visible("#history-button") != is_open
        page.click("#history-button")
        assert page.is_visible("#history")
        assert page.get_attribute("#history-button", "aria-expanded") == "true"
        page.set_viewport_size({"width": 1280, "height": 844})
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.is_visible("#history")
        page.click("#log", position={"x": 380, "y": 300})
        assert not page.is_visible("#history")

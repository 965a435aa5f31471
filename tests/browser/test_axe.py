"""axe-core finds nothing: every view, with content, in both themes, wide and narrow."""

from pathlib import Path
from typing import Any

from tests.api.reasoning.thinker import SWITCHED
from tests.api.support import ByteTokenizer, Served, fake_engine, says
from tests.browser.chat.test_composer import CALL, TOOLS
from tests.browser.conftest import ENDED, WIDE, ask, connected, send, until, visit
from tests.deploy.libraries.vendored import TABLES
from tests.draws import also_at_night, count
from thirdeye.server.text.templates.chat_template import ChatTemplate

AXE = next((TABLES[1].parent).glob("axe-core-*/axe.min.js")).read_text()
RUN = """async (where) => (await axe.run(where, { resultTypes: ['violations'] })).violations.map(
  ({ id, nodes }) => [id, ...nodes.slice(0, 3).map((node) => node.html.slice(0, 200))])"""
TEXT = """## Title

A [link](https://example.org), `code`, a formula $x^2$ and

| a | b |
|---|---|
| 1 | 2 |

1. one

   ```py
   def f(x): return "a" + 1  # note
   ```
2. two

- [x] done

> quoted
"""


def violations(page: Any, **where: list[str]) -> Any:
    """What axe finds on a page, which it is loaded into once: compiled, it takes a third.

    `where`: selectors of what it is to `include` and to `exclude`; of the page as a whole it judges
    the whole alone.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    return page.evaluate(RUN, {"include": ["html"]} | where)


LOOKS = [(1280, "light"), (390, "dark"), (390, "light"), (1280, "dark")]


def shows(page: Any, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)


def found_in_all_looks(page: Any) -> list[Any]:
    """(width, scheme, what axe finds), where anything is, on a page whose colors and width change
    under it. At a push two looks, of which each width and each scheme is one."""
    found = []
    for width, scheme in LOOKS[: count(2, 4)]:
        shows(page, width, scheme)
        if wrong := violations(page):
            found.append((width, scheme, wrong))
    shows(page, *LOOKS[0])
    return found


@also_at_night
def test_axe_finds_nothing(browser: Any, shared: Served, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("some notes")
    shared.use(fake_engine(says(TEXT)))
    with visit(browser, shared.url, **WIDE) as seen:
        page = seen.page
        connected(page)
        assert found_in_all_looks(page) == []  # an empty chat
        page.set_input_files("#attach-file", tmp_path / "notes.txt")
        ask(page, "Hello")
        page.click(f"{ENDED} button:has-text('Retry')")
        page.wait_for_selector(f"{ENDED} .turn")
        until(page, "document.querySelector('.katex') && document.querySelector('.hljs-number')")
        page.click("#settings summary")
        page.click(".file summary")
        page.set_input_files("#attach-file", tmp_path / "notes.txt")
        page.wait_for_selector("#draft-files .chip")
        assert found_in_all_looks(page) == []
        page.set_viewport_size({"width": 390, "height": 844})
        page.click("#history-button")
        for scheme in ("dark", "light")[: count(1, 2)]:
            shows(page, 390, scheme)
            assert violations(page) == []
        page.set_viewport_size({"width": 1280, "height": 900})
        page.click(".user button:has-text('Edit')")
        for scheme in ("light", "dark")[: count(1, 2)]:
            shows(page, 1280, scheme)
            assert violations(page) == []
        for view, ready in (("inspector", "#next .next"), ("timeline", "#steps-frame")):
            page.click(f"nav a[href='#{view}']")
            page.wait_for_selector(ready)
            if view == "inspector":  # with shades behind the numbers of what is looked at
                page.click("#tokens .token:nth-child(3)")
            assert found_in_all_looks(page) == [], view


def test_axe_finds_nothing_in_thoughts_and_calls(browser: Any, shared: Served) -> None:
    template = ChatTemplate(SWITCHED, ByteTokenizer())
    thinking = says(f"<think>\nLet me see.\n</think>\n\n{CALL}")
    shared.use(fake_engine(thinking), template=template)
    with visit(browser, shared.url, viewport={"width": 1280, "height": 900}) as seen:
        page = seen.page
        page.click("#settings summary")
        page.fill("#set-tools", TOOLS)
        send(page, "How is Oslo?")
        page.wait_for_selector(f"{ENDED} .results")
        assert violations(page) == []

"""A real browser on the page: headless Chromium, driven by Playwright; loudly skipped without.

The server is a real one over the fake engine, which says what a test wants; requests to anywhere
but this server are refused and written down.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.api.support import Served, fake_engine, live, ready_state
from tests.browser.tab import NEW, Tab

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
OWN = "127.0.0.1"  # whoever else is asked for is nowhere
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {OWN}",
]  # fmt: skip


@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    """The distribution's Chromium, best the one without windows, which takes a third less of a
    processor: Playwright's own download is not needed.

    While it is open Playwright has an event loop running in this thread, where no other may then
    run: it must be closed before the tests of the next folder begin.
    """
    api = pytest.importorskip("playwright.sync_api", reason="BROWSER TESTS SKIPPED: no playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("BROWSER TESTS SKIPPED: no chromium on this machine")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield Browser(chromium)
        chromium.close()


@dataclass
class Browser:
    """Chromium, and the page that visits share."""

    chromium: Any
    shared: Tab | None = None
    open: "Visit | None" = None  # of the page that they share: `stay` has not left it

    def take(self) -> Tab:
        """The page that is shared, as new; nobody else has it meanwhile."""
        if self.open:
            self.shared = self.open.tab
            self.shared.forget(self.open.url)
        tab = self.shared or Tab(self.chromium)
        self.shared = self.open = None
        return tab

    @contextmanager
    def tab(self, origin: str, is_shared: bool) -> Iterator[Tab]:
        """One that is as new. After a failure, and where it is not shared, nobody has it again."""
        tab = self.take() if is_shared else Tab(self.chromium)
        is_forgotten = False
        try:
            yield tab
            if is_shared:
                tab.forget(origin)
                self.shared, is_forgotten = tab, True
        finally:
            if not is_forgotten:
                tab.close()


@dataclass
class Visit:
    """A page, and all that went wrong on it."""

    tab: Tab
    url: str
    foreign: list[str] = field(default_factory=list)  # addresses it tried to fetch elsewhere
    errors: list[str] = field(default_factory=list)  # uncaught exceptions, console errors
    dialogs: list[str] = field(default_factory=list)

    @property
    def page(self) -> Any:
        return self.tab.page

    def failed(self, address: str) -> None:
        """A request found nobody, or was given up by the page."""
        if not address.startswith((self.url, "data:", "blob:")):
            self.foreign.append(address)

    def on(self, event: str, listener: Callable[[Any], object]) -> None:
        """As the page's own, until the visit ends."""
        self.tab.listen(event, listener)

    def begin(self, path: str, look: dict[str, Any]) -> None:
        # To stop each of a page's forty files on its way takes a seventh of a visit.
        self.tab.listen_to_all("requestfailed", lambda request: self.failed(request.url))
        self.on("pageerror", lambda error: self.errors.append(str(error)))
        self.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.tab.look(**(NEW | look))
        self.page.goto(self.url + path)

    def end(self) -> None:
        assert (self.foreign, self.errors, self.dialogs) == ([], [], [])


@contextmanager
def visit(
    browser: Browser, url: str, path: str = "/", is_shared: bool = True, **look: Any
) -> Iterator[Visit]:
    """A page on `url` that is as new; whatever it did wrong fails the test at the end.

    `look` as in `Tab.look`. Who changes the profile for good asks for one that is not shared.
    """
    with browser.tab(url, is_shared) as tab:
        found = Visit(tab, url)
        found.begin(path, look)
        yield found
    found.end()


# What the view is about to write into the address, which waits for 100 ms, is written first.
FOLLOW = """(link) => new Promise((done) => {
  for (const one of document.querySelectorAll('details[open]')) one.open = false;
  document.activeElement?.blur();
  scrollTo(0, 0);
  setTimeout(() => {
    addEventListener('hashchange', done, { once: true });
    location.hash = link;
  }, 120);
})"""


# Of the chat's page, what tests of formatted text have put there.
EMPTY = """() => {
  location.hash = 'chat';
  for (const one of document.querySelectorAll('#log > .body')) one.remove();
}"""


@contextmanager
def stay(browser: Browser, url: str, link: str = "#chat") -> Iterator[Visit]:
    """A visit for tests that need no new page: it is the one before's, and follows `link`, one of
    the inspector's, which brings back text, choice, edits and all that is drawn; or it is the empty
    chat, for who draws formatted text there and asks nothing. Whoever leaves anything else behind,
    as a choice in a form, asks for `visit`.

    After a failure nobody has it again, and a `visit` to anywhere ends it.
    """
    if browser.open and browser.open.url == url:
        found, browser.open = browser.open, None
    else:
        found = Visit(browser.take(), url)
    try:
        is_open = found.page.url.startswith(url)
        is_chat = link == "#chat"
        if not is_chat:
            link += "&unread="  # the view writes the address anew once it has read it
        if is_open:
            found.page.mouse.move(-1, -1)
            found.page.evaluate(EMPTY if is_chat else FOLLOW, link)
        else:
            found.begin(f"/{link}", {})
        until(found.page, "!location.hash.includes('unread')")
        yield found
        found.end()
    except BaseException:
        found.tab.close()
        raise
    browser.open = found


@pytest.fixture(scope="package")
def shared() -> Iterator[Served]:
    """One server for many tests; each sets the engine it wants: `shared.use(fake_engine(…))`."""
    state = ready_state(fake_engine())
    with live(state) as url:
        yield Served(url, state)


@contextmanager
def served(replay: Any = None, **knobs: Any) -> Iterator[tuple[str, Any]]:
    """(address, engine) of a server whose model says `replay`."""
    engine = fake_engine(replay, **knobs)
    with live(ready_state(engine)) as url:
        yield url, engine


WAIT = """new Promise((done, fail) => {
  const deadline = performance.now() + 100_000;
  const look = () => {
    try {
      if (%s) done();
      else if (performance.now() > deadline) fail(new Error('never true'));
      else setTimeout(look, 20);
    } catch (error) { fail(error); }
  };
  look();
})"""


def until(page: Any, expression: str) -> None:
    """Wait for JavaScript to become true. Playwright's own needs `eval`, which the page bans. The
    page looks by itself: a question from here takes a hundred times as long."""
    page.evaluate(WAIT % expression)


def happens(page: Any, condition: Callable[[], bool]) -> None:
    """Wait for what the server sees. A plain wait would hold back what Playwright's loop calls:
    who answers a dialog, and who refuses a foreign request."""
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        page.wait_for_timeout(20)


def connected(page: Any) -> None:
    """The page knows which model is served."""
    until(page, "document.querySelector('#model').textContent.startsWith('tiny')")


LAST = ".message.assistant:last-child"
ENDED = f"{LAST}:not(.waiting)"
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 844}}


def send(page: Any, text: str) -> None:
    """Without waiting for the answer."""
    connected(page)
    page.fill("#prompt", text)
    page.keyboard.press("Enter")


def ask(page: Any, text: str) -> None:
    """And the answer has come to its end."""
    send(page, text)
    page.wait_for_selector(f"{ENDED} .note:has-text('tokens')")


def ended(page: Any, text: str) -> None:
    """The last answer has come to its end, and says this."""
    found = f"document.querySelector('{ENDED} .body')?.innerText.trim()"
    until(page, f"{found} === {json.dumps(text)}")


def texts(page: Any, selector: str = ".message .body") -> list[str]:
    found: list[str] = page.locator(selector).all_inner_texts()
    return found


def open_settings(page: Any) -> None:
    page.click("#settings summary")

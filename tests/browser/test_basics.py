"""What every view owes everybody: names for controls, headings in order, no sideways scrolling."""

from typing import Any

from tests.api.support import Served, fake_engine, live, served_model
from tests.browser.conftest import connected, served, until, visit
from thirdeye.server.api.state.server_state import ServerState

UNNAMED = """() => [...document.querySelectorAll(
    'button, a, input, textarea, select, canvas, [role]')]
  .filter((node) => node.offsetParent !== null || node.closest('dialog[open]'))
  .filter((node) => !node.closest('[aria-hidden=true]'))
  .filter((node) => !(node.textContent.trim() || node.getAttribute('aria-label')
    || node.getAttribute('aria-labelledby') || node.labels?.length
    || node.getAttribute('role') === 'status'))
  .map((node) => node.outerHTML.slice(0, 120))"""

CONTRAST = """() => {
  const bright = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const probe = document.createElement('i');
  document.body.append(probe);
  const of = (name) => {
    probe.style.color = `var(${name})`;
    return bright(getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number));
  };
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const pairs = [['--text', '--page'], ['--quiet', '--page'], ['--quiet', '--raised'],
    ['--accent', '--page'], ['--on-accent', '--accent'], ['--error', '--page'],
    ['--text', '--mine']];
  return pairs.map(([a, b]) => [a, b, ratio(of(a), of(b))]).filter(([, , found]) => found < 4.5);
}"""


def test_every_view_is_usable_by_all(browser: Any, shared: Served) -> None:
    """On a desktop and on a phone, in light and in dark."""
    shared.use(fake_engine())
    with visit(browser, shared.url, color_scheme="dark") as seen:
        page = seen.page
        connected(page)
        for view in ("chat", "tour", "inspector", "timeline"):
            page.evaluate(f"location.hash = '{view}'")
            page.wait_for_selector({"inspector": "#next .next"}.get(view, f"main#{view}"))
            assert page.evaluate("document.documentElement.lang") == "en"
            assert page.locator("main:visible").count() == 1, view
            assert page.locator("nav a[aria-current=page]").count() == 1, view
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate(CONTRAST) == [], (view, scheme)
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 844})
                assert page.evaluate(UNNAMED) == [], view
                assert page.evaluate("document.documentElement.scrollWidth") <= width, view
                wide = "document.querySelector('main:not([hidden])').scrollWidth"
                assert page.evaluate(wide) <= width, view
            ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
            assert len(ids) == len(set(ids)), view


FOCUSED = """() => {
  const node = document.activeElement;
  const box = node.getBoundingClientRect();
  return [node.id || node.textContent.trim().slice(0, 30), box.width * box.height > 0];
}"""


def test_tab_reaches_all_there_is_to_do(browser: Any) -> None:
    """In the order of the screen, never to what is hidden, and a grid is one stop."""
    stops = {
        "chat": ["clear", "import", "Settings of this chat", "log", "prompt", "attach", "send"],
        "inspector": ["look-text", "Look", "G", "layer", "head"],
        "timeline": ["pause", "save-trace", "open-trace", "steps"],
    }
    with served(list(b"x" * 9)) as (url, _), visit(browser, url) as seen:
        page = seen.page
        page.set_viewport_size({"width": 1280, "height": 844})
        connected(page)
        for view, wanted in stops.items():
            page.click(f"nav a[href='#{view}']")
            if view == "inspector":
                page.wait_for_selector("#next .next")
            if view == "timeline":  # the step of that look has come: before, there is none to see
                until(page, "document.querySelector('#steps-empty').hidden")
            page.focus("nav a[href='#timeline']")
            found = []
            for _ in range(70):
                page.keyboard.press("Tab")
                name, is_visible = page.evaluate(FOCUSED)
                assert is_visible, name
                found.append(name)
                if name == wanted[-1]:
                    break
            assert [name for name in found if name in wanted] == wanted


def test_the_policy_comes_with_every_file(browser: Any) -> None:
    """Modules, styles and page alike, and nothing was asked of anybody else."""
    policies = []
    with served() as (url, _), visit(browser, url) as seen:
        seen.on("response", lambda r: policies.append((r.url, r.headers)))
        seen.page.reload()
        until(seen.page, "document.querySelector('#model').textContent.startsWith('tiny')")
        own = [headers for found, headers in policies if "/v1/" not in found]
        assert len(own) >= 12
        for headers in own:
            assert headers["content-security-policy"].startswith("default-src 'none'")
            assert "trusted-types" in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"


def test_the_theme_button_goes_round(browser: Any) -> None:
    with served() as (url, _), visit(browser, url) as seen:
        page = seen.page
        until(page, "document.querySelector('#theme').title !== ''")
        found = []
        for _ in range(3):
            page.click("#theme")
            found.append(page.evaluate("document.documentElement.style.colorScheme"))
        assert found == ["light", "dark", "light dark"]


def test_a_link_shows_its_view_before_the_model_is_there(browser: Any) -> None:
    state = ServerState()
    with live(state) as url, visit(browser, url, "/#tour/3") as seen:
        until(seen.page, "document.querySelector('#model').textContent.includes('Loading')")
        shown = "[...document.querySelectorAll('main:not([hidden])')].map((view) => view.id)"
        assert seen.page.evaluate(shown) == ["tour"]
        state.ready(fake_engine(), served_model())
        seen.page.wait_for_selector("#tour-title")
        seen.errors.clear()  # the browser tells of each 503

"""The first view is small: what it does not show yet is not fetched yet."""

from typing import Any

from tests.api.support import Served, fake_engine, says
from tests.browser.conftest import ask, connected, until, visit

MAX_BYTES = 200_000  # as the files are, without compression


def fetched(page: Any) -> dict[str, int]:
    """Bytes of each file of the page, by its path."""
    return page.evaluate(
        """Object.fromEntries(performance.getEntries()
          .filter(({ entryType }) => /navigation|resource/.test(entryType))
          .map(({ name, decodedBodySize }) => [new URL(name).pathname, decodedBodySize])
          .filter(([path]) => path === '/' || path.startsWith('/web/')))"""
    )


def test_the_first_view_is_under_200_kb(browser: Any, shared: Served) -> None:
    """Even with a formatted answer on it; other views, formulas and colors come when needed."""
    shared.use(fake_engine(says("**Bold**, and a list:\n\n- one\n- two")))
    with visit(browser, shared.url) as seen:
        page = seen.page
        ask(page, "Hello")
        page.reload()
        connected(page)
        page.wait_for_selector(".assistant li")
        first = fetched(page)
        assert sum(first.values()) < MAX_BYTES, first
        assert min(first.values()) > 0
        assert not [path for path in first if path.startswith(("/web/tour/", "/web/inspector/"))]
        libraries = {path for path in first if "/vendor/" in path}
        assert libraries == {"/web/vendor/marked-18.2.1/marked.esm.js"}
        shared.use(fake_engine(says("$x$\n\n```py\n1\n```\n")))
        ask(page, "More")
        until(page, "document.querySelector('.katex') && document.querySelector('.hljs-number')")
        later = fetched(page).keys() - first.keys()
        scripts = {path.rpartition("/")[2] for path in later if path.endswith("js")}
        assert scripts == {"katex.min.js", "core.min.js", "python.min.js"}

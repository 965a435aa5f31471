"""A page that many tests visit, one after another, and that comes to each as new.

A browser takes three times as long for a new profile with its window and its process as our page
takes to load. What `forget` must take away is what `test_visit.py` leaves behind.
"""

from collections.abc import Callable
from typing import Any

NEW: dict[str, Any] = {"viewport": {"width": 1280, "height": 720}, "color_scheme": "light"}
FORGET = "() => { localStorage.clear(); sessionStorage.clear(); name = ''; }"


class Tab:
    def __init__(self, browser: Any) -> None:
        """`browser` as Playwright launched it."""
        self._context = browser.new_context(service_workers="block")
        self._context.set_default_timeout(100_000)
        self.page = self._context.new_page()
        self._protocol = self._context.new_cdp_session(self.page)
        self._listening: list[tuple[Any, str, Callable[[Any], object]]] = []

    def listen(self, event: str, listener: Callable[[Any], object]) -> None:
        """Until the visit ends."""
        self.page.on(event, listener)
        self._listening.append((self.page, event, listener))

    def listen_to_all(self, event: str, listener: Callable[[Any], object]) -> None:
        """The same, of any page of the profile."""
        self._context.on(event, listener)
        self._listening.append((self._context, event, listener))

    def look(
        self, viewport: dict[str, int], color_scheme: str, permissions: list[str] | None = None
    ) -> None:
        """Of what size and colours it is, and what it may do."""
        self.page.set_viewport_size(viewport)
        self.page.emulate_media(color_scheme=color_scheme)
        self._context.grant_permissions(permissions or [])

    def forget(self, origin: str) -> None:
        """All that was left here by a visit to `origin`."""
        for other in self._context.pages:
            if other is not self.page:
                other.close()
        for where, event, listener in self._listening:
            where.remove_listener(event, listener)
        self._listening.clear()
        self.page.evaluate(FORGET)
        self.page.mouse.move(-1, -1)  # nothing is under it
        self.page.unroute_all()
        self.page.goto("about:blank")
        self._context.clear_cookies()
        self._context.clear_permissions()
        self._protocol.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        self._protocol.send("Network.clearBrowserCache")
        self._protocol.send("Page.resetNavigationHistory")

    def close(self) -> None:
        self._context.close()

"""Where the server is and which key opens it: argument, else environment, else default.

`OPENAI_BASE_URL` and `OPENAI_API_KEY` are the names that every OpenAI client reads; the
environment is read in this file alone. Routes outside `/v1` (`/health`, `/tokenize`) hang off the
server's root, which is the base URL without its `/v1`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

DEFAULT_BASE_URL = "http://127.0.0.1:8000/v1"


@dataclass(frozen=True, slots=True)
class Target:
    """A server to talk to.

    >>> target = Target.find("http://127.0.0.1:8000")
    >>> target.url("models"), target.url("/health")
    ('http://127.0.0.1:8000/v1/models', 'http://127.0.0.1:8000/health')
    """

    base_url: str  # no slash at its end
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def find(
        cls,
        base_url: str | None = None,
        api_key: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Raises ValueError if the URL is not one of http or https."""
        if environ is None:
            environ = os.environ  # noqa: TID251  the one place where the clients read it
        base_url = base_url or environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL
        parts = urlsplit(base_url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'base_url' must be like {DEFAULT_BASE_URL}, got {base_url!r}.")
        path = parts.path.rstrip("/") or "/v1"  # http://host alone is short for http://host/v1
        key = api_key or environ.get("OPENAI_API_KEY") or None
        return cls(f"{parts.scheme}://{parts.netloc}{path}", key)

    def url(self, path: str) -> str:
        """`path` under the base URL; a path with a slash in front is under the server's root."""
        if path.startswith("/"):
            return self.base_url.removesuffix("/v1") + path
        return f"{self.base_url}/{path}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    @property
    def is_loopback(self) -> bool:
        """Whether the server is this machine: there a proxy from the environment is wrong."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

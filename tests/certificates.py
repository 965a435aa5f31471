"""The authorities' certificates, read once for all HTTP clients of the suite.

Each client of httpx reads them when it is made, which takes 20 ms: most of what a test costs that
sends one request. Our servers speak no TLS.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import httpx
import httpx2  # noqa: TID251 (the official clients' transport)


@contextmanager
def read_once() -> Iterator[None]:
    """A transport that is to trust the usual authorities gets the one context that has them."""
    context = ssl.create_default_context()
    with ExitStack() as patches:
        for library in (httpx, httpx2):
            for transport in (library.HTTPTransport, library.AsyncHTTPTransport):
                init = _with(transport.__init__, context)
                patches.enter_context(patch.object(transport, "__init__", init))
        yield


def _with(init: Callable[..., None], context: ssl.SSLContext) -> Callable[..., None]:
    def with_context(self: Any, verify: Any = True, *args: Any, **options: Any) -> None:
        init(self, context if verify is True else verify, *args, **options)

    return with_context

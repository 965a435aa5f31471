"""An OpenAI-compatible server for GPT-family language models, and its clients.

    from thirdeye import Client

The rooms lie at the top of the repository (`server/`, `model/`, `weights/`, `clients/`); here each is a
link, so that what is installed is one package. The clients' names can be had from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thirdeye.clients import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """On first use: the server's processes come through here too, and need no HTTP client."""
    clients = import_module("thirdeye.clients")
    if name in clients.__all__:
        return getattr(clients, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What the API tells of a request to whoever traces it, and the tracer that hears nothing."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from thirdeye.server.engine.interface.types import Engine

Attribute = str | int | float | bool | Sequence[str]


class RequestTrace(Protocol):
    """One HTTP request. Never given a prompt, an answer or a key."""

    def computes(self, engine: Engine, request_ids: Sequence[str]) -> None:
        """Its engine requests begin: their steps belong to it."""

    def describe(self, attributes: Mapping[str, Attribute]) -> None: ...

    def end(self, route: str, status: int) -> None:
        """Once, when its last byte is out. `route` is the template; status 0: no answer began."""


class Tracer(Protocol):
    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> RequestTrace:
        """`headers` in lower case; `traceparent` says whose part it is."""

    def close(self) -> None:
        """Hand over what is left, within a few seconds."""


class NoTrace:
    def computes(self, engine: Engine, request_ids: Sequence[str]) -> None:
        pass

    def describe(self, attributes: Mapping[str, Attribute]) -> None:
        pass

    def end(self, route: str, status: int) -> None:
        pass


class NoTracer:
    def begin(
        self,
        method: str,  # noqa: ARG002 (as in the protocol)
        path: str,  # noqa: ARG002
        headers: Mapping[str, str],  # noqa: ARG002
    ) -> RequestTrace:
        return NO_TRACE

    def close(self) -> None:
        pass


NO_TRACE = NoTrace()
NO_TRACER = NoTracer()

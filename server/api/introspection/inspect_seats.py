"""Who may look inside: few at a time, each a request like any other."""

from thirdeye.server.api.admission.viewer_slots import ViewerSlots
from thirdeye.server.api.http.request_scope import Lifetime
from thirdeye.server.api.introspection.inspect_request import InspectRequest
from thirdeye.server.api.state.context import Context
from thirdeye.server.errors import Forbidden

MAX_VIEWERS = 4
MAX_VIEWERS_OF_KEY = 2


class InspectSeats:
    """The seats of one server, for all that is looked into."""

    def __init__(self, context: Context) -> None:
        self._state = context.state
        self._slots = ViewerSlots(
            MAX_VIEWERS, MAX_VIEWERS_OF_KEY, "texts are being looked into already"
        )

    def take(self, lifetime: Lifetime, num_tokens: int) -> None:
        """One for as long as the request lasts, which counts as any other does, and a drain waits
        for it. Raises `ApiError` if there is none."""
        account = self._state.rates.open(lifetime.caller, lifetime.headers)
        lifetime.at_end(self._slots.acquire(lifetime.caller))
        account.charge(requests=1, tokens=num_tokens)
        lifetime.at_end(self._state.admission.admit(1).release)


def check_level(level: str, body: InspectRequest | None = None) -> None:
    """`level`: as the operator set it. Raises `Forbidden` for what goes beyond."""
    if level == "off":
        raise Forbidden(
            "This server cannot be looked into: its operator set '--inspect off'.",
            param=None,
            code="inspect_off",
        )
    if level == "read" and body is not None and (body.interventions or body.sweep):
        param = "interventions" if body.interventions else "sweep"
        raise Forbidden(
            f"'{param}' is not allowed on this server: its operator set '--inspect read'.",
            param=param,
            code="inspect_off",
        )

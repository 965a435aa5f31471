"""A way for events past the tasks between an engine and a socket.

Between two tasks stands a queue, and each token would wake both. Where nothing waits on the way,
the event may as well be handed over in the call that brought its output: what is at the way's other
end then deals with it at once. Whoever offers a shortcut says when it is open; events that do not
find it open go by the queue, and it stays closed until they have arrived. So the order is kept.
"""

from typing import Protocol

from thirdeye.server.text.events import TextEvent


class Shortcut(Protocol):
    """For the events of one choice."""

    @property
    def is_open(self) -> bool:
        """Whether every event before has arrived, and the next one would without waiting."""

    def send(self, event: TextEvent) -> None:
        """Deal with it. Only while it is open; not for the last event of a choice."""

"""An engine client with nobody at the other end."""

from tests.engine.toy import toy_config, toy_info
from thirdeye.server.engine.process.engine_client import EngineClient
from thirdeye.server.engine.process.messages import Command


class RecordingClient(EngineClient):
    """Keeps what it is told to send; steps come from the test."""

    def __init__(self) -> None:
        super().__init__(toy_info(toy_config()))
        self.sent: list[Command] = []

    def _send(self, command: Command) -> None:
        self.sent.append(command)

    async def close(self) -> None:
        self.abort_all()

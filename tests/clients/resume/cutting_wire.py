"""A wire to a server that breaks: each connection passes on so many bytes of the answer, and then
it is closed, as a killed process's are."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit


class CuttingWire:
    """Use as a context manager; `url` takes the server's place. `num_bytes` is asked for each
    connection: how much of the answer comes through, None: all."""

    def __init__(self, url: str, num_bytes: Callable[[], int | None]) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = parts.hostname, parts.port
        self._num_bytes = num_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.num_cuts = 0

    def __enter__(self) -> "CuttingWire":
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, target: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._carry, client)

    def _carry(self, client: socket.socket) -> None:
        left = self._num_bytes()
        with client, socket.create_connection(self._server) as server, suppress(OSError):
            self._spawn(_pass_on, client, server)
            while data := server.recv(256):
                if left is not None and len(data) >= left:
                    client.sendall(data[:left])
                    self.num_cuts += 1
                    break
                left = None if left is None else left - len(data)
                client.sendall(data)
            for end in (server, client):  # a close alone would wait for who reads there
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    """What is asked."""
    with suppress(OSError):
        while data := client.recv(65536):
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)

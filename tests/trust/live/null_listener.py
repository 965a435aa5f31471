"""Refuses whoever asks, at the least that a refusal costs any server: for each the kernel's own
calls, and of Python a loop.

    python -m tests.trust.live.null_listener        prints its port

It reads what is there, says 429, and closes where it is asked to. What the same flood takes of two
cores from here is taken on every server.
"""

import selectors
import socket
import sys
from contextlib import suppress

ANSWER = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"


def refuse(sock: socket.socket) -> bool:
    """Whether the connection is kept."""
    with suppress(OSError):
        data = sock.recv(1 << 16)
        if data:
            sock.send(ANSWER)
        return bool(data) and b"Connection: close" not in data
    return False


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                elif not refuse(sock):
                    selector.unregister(sock)
                    sock.close()


if __name__ == "__main__":
    sys.exit(main())

"""Refuses whoever connects, at the least that a refusal costs any server: for each connection the
kernel's own calls, and of Python a loop.

    python -m tests.trust.live.null_listener        prints its port

It reads what is there, says 429 and closes. What the same flood takes of two cores from here is
taken on every server.
"""

import socket
import sys
from contextlib import suppress

ANSWER = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            sock, _ = listener.accept()
            with sock, suppress(OSError):
                sock.recv(1 << 16)
                sock.send(ANSWER)


if __name__ == "__main__":
    sys.exit(main())

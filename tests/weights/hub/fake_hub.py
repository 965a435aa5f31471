"""A small Hugging Face hub on this machine: what its client asks of the real one, and its faults.

Large files are redirected to another origin (`localhost` for `127.0.0.1`), as the hub redirects to
its content network, where a token has no business. Ranges are honoured.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 512  # bytes from which a file lies in Git LFS
COMMIT = "c" * 40


@dataclass
class FakeRepository:
    """Files by path, at one commit; `gated` shows its listing and refuses its files."""

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False
    token: str | None = None  # without it, the repository is not there


@dataclass
class FakeHub:
    """What it serves, what it does wrong, and what it was asked."""

    url: str = ""
    repositories: dict[str, FakeRepository] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)  # each breaks one answer off after so many bytes
    spoilt: set[str] = field(default_factory=set)  # paths whose bytes come wrong
    status: int | None = None  # every question is answered with this
    ignores_ranges: bool = False
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def asked_for(self, ending: str) -> list[str | None]:
        """The Range headers of requests for a path that ends so."""
        return [span for path, span, _ in self.asked if path.endswith(ending)]


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(_Handler):
        state = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def listing(repository: FakeRepository, name: str) -> dict[str, Any]:
    """As `/api/models/…?blobs=true` answers."""
    siblings = []
    for path, raw in repository.files.items():
        entry: dict[str, Any] = {"rfilename": path, "size": len(raw), "blobId": git_sha1(raw)}
        if len(raw) >= LARGE:
            sha256 = hashlib.sha256(raw).hexdigest()
            entry["lfs"] = {"sha256": sha256, "size": len(raw), "pointerSize": 134}
        siblings.append(entry)
    return {"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings}


def git_sha1(raw: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FakeHub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        hub, headers = self.state, self.headers
        hub.asked.append((path, headers.get("Range"), headers.get("Authorization")))
        if hub.status is not None:
            return self._error(hub.status, "")
        if path.startswith("api/models/"):
            return self._list(path.removeprefix("api/models/"))
        if path.startswith("api/"):  # what else its client asks, by its version
            return self._error(404, "")
        org, name, how, commit, file = path.split("/", 4)
        repository = hub.repositories[f"{org}/{name}"]
        assert how in ("resolve", "lfs")
        assert commit == repository.commit, "files are asked for by commit"
        if repository.gated and how == "resolve":
            return self._error(403, "GatedRepo")
        raw = repository.files[file]
        if len(raw) >= LARGE and how == "resolve":
            host = hub.url.replace("127.0.0.1", "localhost")
            return self._answer(302, b"", {"Location": f"{host}/{org}/{name}/lfs/{commit}/{file}"})
        if file in hub.spoilt:
            raw = raw[:-1] + bytes([raw[-1] ^ 1])
        return self._send_file(raw)

    def _list(self, path: str) -> None:
        org, name, *revision = path.split("/", 3)
        repository = self.state.repositories.get(f"{org}/{name}")
        bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repository is None or repository.token not in (None, bearer):
            return self._error(401, "RepoNotFound")
        if revision and revision[1] not in ("main", "v1", repository.commit):
            return self._error(404, "RevisionNotFound")
        body = json.dumps(listing(repository, f"{org}/{name}")).encode()
        return self._answer(200, body, {"Content-Type": "application/json"})

    def _send_file(self, raw: bytes) -> None:
        span = self.headers.get("Range")
        if span is None or self.state.ignores_ranges:
            return self._answer(200, raw, {})
        start = int(span.removeprefix("bytes=").split("-")[0])
        where = {"Content-Range": f"bytes {start}-{len(raw) - 1}/{len(raw)}"}
        return self._answer(206, raw[start:], where)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, b"", {"X-Error-Code": code} if code else {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        is_cut = "/lfs/" in self.path and self.state.cuts
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if is_cut:
            self.wfile.write(body[: self.state.cuts.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body)

"""Keys and hosts: deny by default, over every route, every spelling of a path, every Host."""

import asyncio
import hashlib
import logging
import socket
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from tests.api.http.test_errors import ask, check_envelope
from tests.api.support import CHAT, client_of, document, fake_engine, live, ready_state
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import OPEN_PATHS, hosts_of
from thirdeye.server.launch.asgi_app import App, create_app

WEB = Path(str(files("thirdeye.server.web")))
KEY = "sk-geheim-ü"
KEYED = ApiConfig(api_keys=("other", KEY))


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + key.encode()}


def all_paths() -> list[str]:
    libraries = sorted(path for path in OPEN_PATHS if path.startswith("/web/vendor/"))
    own = OPEN_PATHS - set(libraries[1:])  # one is as good as another
    paths = [*document()["paths"], "/docs", "/openapi.json", "/", *own]
    return sorted({path.replace("{model_id}", "org/tiny") for path in paths})


@pytest.fixture(scope="module")
def keyed() -> App:
    """One for all paths: to make it takes longer than to ask it."""
    return create_app(ready_state(fake_engine()), KEYED)


@pytest.mark.parametrize("path", all_paths())
def test_every_route_but_the_listed_ones_asks_for_the_key(keyed: App, path: str) -> None:
    """Also routes added later: the list is of what is open, not of what is closed."""

    async def main() -> None:
        async with client_of(keyed) as client:
            for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
                answer = await client.request(method, path)
                is_denied = answer.status_code == 401
                assert is_denied == (path not in OPEN_PATHS), (method, path)

    asyncio.run(main())


def test_the_open_paths_are_exactly_these() -> None:
    """Health, and the page with its own files: no route that tells anything of the model."""
    assert OPEN_PATHS - {"/", "/health", "/ping", "/ready"} == {
        f"/web/{path.relative_to(WEB).as_posix()}"
        for path in WEB.rglob("*")
        if path.suffix in (".css", ".js", ".woff2")
    }


def test_a_missing_key_and_a_wrong_key() -> None:
    """Rows 1 and 2."""
    missing = ask("/v1/models", None, method="GET", config=KEYED)
    assert check_envelope(missing)["code"] is None
    assert missing.headers["www-authenticate"] == "Bearer"
    wrong = ask("/v1/models", None, method="GET", config=KEYED, headers=bearer("sk-wrong"))
    error = check_envelope(wrong)
    assert (wrong.status_code, error["code"]) == (401, "invalid_api_key")
    assert "sk-wrong" not in wrong.text


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic " + KEY.encode(),
        KEY.encode(),
        b"Bearer " + KEY.encode()[:-1],
        b"Bearer " + KEY.encode() + b"x",
        b"Bearer " + KEY.encode("latin-1"),
        b"Bearer \xff\xfe",
        b"Bearer " + hashlib.sha256(KEY.encode()).hexdigest().encode(),
        b"Bearer " + b"x" * 30_000,
    ],
)
def test_nothing_but_the_key_opens(value: bytes) -> None:
    """Non-ASCII bytes once made a comparison of strings raise."""
    answer = ask("/v1/models", None, method="GET", config=KEYED, headers={b"authorization": value})
    assert answer.status_code == 401


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
@pytest.mark.parametrize("key", [KEY, "other"])
def test_each_key_opens(scheme: bytes, key: str) -> None:
    headers = {b"authorization": scheme + key.encode()}
    assert ask("/v1/models", None, method="GET", config=KEYED, headers=headers).status_code == 200


def test_two_authorization_headers_are_refused() -> None:
    """Two parsers may pick different ones."""
    value = b"Bearer " + KEY.encode()
    headers = [(b"authorization", value), (b"authorization", value)]
    assert ask("/v1/models", None, method="GET", config=KEYED, headers=headers).status_code == 401


def test_without_keys_any_authorization_header_passes() -> None:
    """lm-eval sends a Bearer with nothing behind it."""
    headers = {"authorization": "Bearer "}
    assert ask("/v1/models", None, method="GET", headers=headers).status_code == 200


def test_prefixes_are_shared_within_one_key_only() -> None:
    """The prefix cache's timing must not tell one caller what another asked."""
    engine = fake_engine()
    state = ready_state(engine)
    for key in (KEY, "other", KEY):
        ask("/v1/chat/completions", CHAT, state=state, config=KEYED, headers=bearer(key))
    first, second, third = (request.cache_salt for request in engine.requests)
    assert first == third != second
    assert KEY not in first


HOSTS = ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "", "evil@localhost", "[::2]"]
ODD_HOSTS = ["localhost/health", "localhost?x=/health", "x/health#", "health", "a\\health", ":80"]
ODD_PATHS = [
    "/v1/models/", "//v1/models", "/./v1/models", "/health/../v1/models", "/%76%31/models",
    "/v1%2fmodels", "/health%2f..%2fv1/models", "/v1/models?/health", "/v1/models;/health",
    "/health/v1/models", "/web/../v1/models", "http://localhost/v1/models",
]  # fmt: skip


@pytest.fixture(scope="module")
def keyed_port() -> Iterator[int]:
    with live(ready_state(fake_engine()), KEYED) as url:
        yield int(url.rpartition(":")[2])


def raw_status(port: int, path: str, host: str) -> int:
    """The status of a request as a raw socket sends it: no client normalizes the path."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request.encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("host", [*HOSTS, *ODD_HOSTS, "localhost"])
def test_no_path_and_no_host_gets_around_the_key(keyed_port: int, host: str) -> None:
    """BadHost: auth read a URL made from the Host header, and `/health` in it opened all."""
    for path in [*ODD_PATHS, "/v1/models", "/metrics", "/tokenize", "/nope"]:
        assert raw_status(keyed_port, path, host) in (400, 401), (path, host)


@pytest.fixture(scope="module")
def keyless_port() -> Iterator[int]:
    with live(ready_state(fake_engine())) as url:
        yield int(url.rpartition(":")[2])


@pytest.mark.parametrize("host", [*HOSTS, *ODD_HOSTS])
def test_foreign_hosts_are_refused_without_keys(keyless_port: int, host: str) -> None:
    """DNS rebinding: a web page whose name resolves to 127.0.0.1 must not reach the model."""
    for path in ("/v1/models", "/", "/health"):
        assert raw_status(keyless_port, path, host) in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_own_hosts_are_answered_without_keys(keyless_port: int, host: str) -> None:
    assert raw_status(keyless_port, "/v1/models", host) == 200


def test_foreign_origins_are_refused_and_no_cors_header_is_sent() -> None:
    for origin in ("http://evil.example", "null", "http://localhost:9", "https://127.0.0.1"):
        answer = ask("/v1/chat/completions", CHAT, headers={"origin": origin})
        assert answer.status_code == 403
        assert check_envelope(answer)["code"] == "origin_not_allowed"
        assert not any(name.startswith("access-control") for name in answer.headers)
    own = ask("/v1/chat/completions", CHAT, headers={"origin": "http://localhost"})
    assert own.status_code == 200


def test_an_exposed_server_answers_to_any_host() -> None:
    open_to_all = ApiConfig(allowed_hosts=None)
    answer = ask("/v1/models", None, method="GET", config=open_to_all, headers={"host": "my.lan"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("host", "names", "answered", "refused"),
    [
        ("127.0.0.1", (), ["localhost:8000", "127.0.0.1"], ["api.example.com", "10.0.0.1"]),
        ("localhost", ("API.example.com",), ["api.example.com:443", "::1"], ["b.example.com"]),
        ("10.0.0.1", ("a", "b"), ["a", "b:80", "10.0.0.1:8000", "localhost"], ["c", "10.0.0.2"]),
        ("0.0.0.0", (), ["any.example.com"], []),
        ("0.0.0.0", ("a",), ["a"], ["b"]),
    ],
)
def test_the_operator_names_hosts(
    host: str, names: tuple[str, ...], answered: list[str], refused: list[str]
) -> None:
    config = ApiConfig(allowed_hosts=hosts_of(host, names))
    for hosts, status in ((answered, 200), (refused, 403)):
        for name in hosts:
            shown = f"[{name}]" if name == "::1" else name
            headers = {"host": shown}
            answer = ask("/v1/models", None, method="GET", config=config, headers=headers)
            assert answer.status_code == status, name
            if status == 403:
                assert "--allow-host" in check_envelope(answer)["message"]


def test_logs_hold_no_prompt_no_answer_no_key_and_one_line_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Canaries in all three, and a log line forged through the request id and the model's name."""
    caplog.set_level(logging.DEBUG)
    body = {"model": "tiny", "prompt": "canary-prompt", "user": "a\r\nforged", "max_tokens": 20}
    state = ready_state(fake_engine(list(b"canary-answer")))
    ask("/v1/completions", body, state=state, config=KEYED, headers=bearer(KEY))
    ask("/v1/completions", body | {"model": "x\nforged"}, state=state, config=KEYED,
        headers=bearer(KEY))  # fmt: skip
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("thirdeye")]
    assert len(ours) == 1
    assert '"completion_tokens": 13' in ours[0]
    text = "\n".join(r.getMessage() for r in caplog.records)
    assert not any(canary in text for canary in ("canary", KEY, "\nforged"))

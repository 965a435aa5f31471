"""Keys with names and scopes: what each may do, what the log calls it, and how they change."""

import asyncio
import hashlib
import json
import logging
import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.http.test_errors import check_envelope
from tests.api.support import CHAT, client_over, create_app, fake_engine, ready_state
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import SCOPE_OF
from thirdeye.server.settings.api_keys import SCOPES, keys_in, parse_key, parse_keys
from thirdeye.server.transport.server import bind, serve

HASHED = hashlib.sha256(b"carols-key").hexdigest()
LINES = (
    "plain-key",
    "alice use alices-key",
    "prom operate proms-key",
    f"carol use,inspect sha256:{HASHED}",
    "alice use alices-next-key",
)
KEYS = {
    "plain-key": {"use", "inspect"},
    "alices-key": {"use"},
    "alices-next-key": {"use"},
    "proms-key": {"operate"},
    "carols-key": {"use", "inspect"},
}
ROUTES = {
    "use": ("GET", "/v1/models", None),
    "inspect": ("POST", "/v1/inspect", {"model": "tiny", "prompt": "a"}),
    "operate": ("GET", "/metrics", None),
}


def ask(config: ApiConfig, method: str, path: str, body: object, key: str) -> httpx.Response:
    async def main() -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with client_over(ready_state(fake_engine()), config) as client:
            return await client.request(method, path, json=body, headers=headers)

    return asyncio.run(main())


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("scope", ROUTES)
def test_a_key_may_do_what_its_scopes_say(key: str, scope: str) -> None:
    answer = ask(ApiConfig(api_keys=LINES), *ROUTES[scope], key)
    if scope in KEYS[key]:
        assert answer.status_code == 200
        return
    error = check_envelope(answer)
    assert (answer.status_code, error["code"]) == (403, "insufficient_scope")
    assert f"'{scope}'" in error["message"]
    assert scope in answer.headers["www-authenticate"]
    assert key not in answer.text


def test_paths_with_a_scope_are_routes() -> None:
    """A route that was renamed would be open to every key."""
    paths = create_app(ready_state(fake_engine()), ApiConfig(api_keys=LINES)).openapi()["paths"]
    of_pools = {path for path, scope in SCOPE_OF.items() if path not in paths}
    assert of_pools == {"/models/load", "/models/unload", "/sleep", "/wake_up"}
    for path in SCOPE_OF.keys() - of_pools:  # tests/api/pool asks for the others
        scope = SCOPE_OF[path]
        for operation in paths[path].values():
            assert operation["security"] == [{"bearer": [scope]}, {"x-api-key": [scope]}]
            assert "403" in operation["responses"]


def test_the_digest_of_a_key_is_no_key() -> None:
    config = ApiConfig(api_keys=LINES)
    for sent in (HASHED, f"sha256:{HASHED}", "carol", "alice use alices-key"):
        assert ask(config, *ROUTES["use"], sent).status_code == 401


def test_metrics_can_be_open_and_nothing_else_is() -> None:
    config = ApiConfig(api_keys=LINES, open_metrics=True)
    assert ask(config, *ROUTES["operate"], "").status_code == 200
    assert ask(config, *ROUTES["use"], "").status_code == 401
    assert ask(ApiConfig(api_keys=LINES), *ROUTES["operate"], "").status_code == 401


def test_the_log_has_the_keys_name_and_never_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    names = {"alices-key": "alice", "carols-key": "carol"}
    names["plain-key"] = hashlib.sha256(b"plain-key").hexdigest()[:16]
    for key, name in names.items():
        caplog.clear()
        ask(ApiConfig(api_keys=LINES), "POST", "/v1/chat/completions", CHAT, key)
        (line,) = [r.getMessage() for r in caplog.records if r.name == "thirdeye.request"]
        assert json.loads(line.partition(" ")[2])["key"] == name
        assert key not in caplog.text


def test_the_access_log_has_a_line_for_every_request(caplog: pytest.LogCaptureFixture) -> None:
    """Who asked for what, refused or not; no key, no query, and nothing without the option."""
    caplog.set_level(logging.INFO)
    asked = [
        ("GET", "/v1/models?secret-query", None, "alices-key", 200, "alice"),
        ("GET", "/metrics", None, "alices-key", 403, "alice"),
        ("POST", "/v1/chat/completions", CHAT, "wrong-key", 401, None),
        ("GET", "/health", None, "", 200, None),
        ("GET", "/a%0Aforged", None, "alices-key", 404, "alice"),
    ]
    config = ApiConfig(api_keys=LINES, access_log=True)
    for method, path, body, key, status, name in asked:
        caplog.clear()
        ask(config, method, path, body, key)
        (line,) = [r.getMessage() for r in caplog.records if r.name == "thirdeye.access"]
        found = json.loads(line.removeprefix("access "))
        assert (found["status"], found.get("key")) == (status, name)
        assert (found["method"], found["client"]) == (method, "127.0.0.1")
        assert found["path"] == path.partition("?")[0].replace("%0A", "?")
        assert found["ms"] >= 0
        assert not any(secret in line for secret in ("secret-query", "\nforged", "s-key"))
    caplog.clear()
    ask(ApiConfig(api_keys=LINES), "GET", "/v1/models", None, "alices-key")
    assert "thirdeye.access" not in {record.name for record in caplog.records}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("alice use", "a line is KEY"),
        ("alice use secret-word more", "a line is KEY"),
        ("al/ice use secret-word", "a name has"),
        (f"{'0a' * 8} use secret-word", "a name has"),
        ("alice uses secret-word", "the scopes are use, inspect, operate, gateway"),
        ("alice use, secret-word", "the scopes are"),
        ("alice use sha256:secret-word", "behind .sha256:. stand 64 hexadecimal"),
        ("sha256:secret-word", "behind .sha256:. stand 64 hexadecimal"),
    ],
)
def test_a_wrong_line_is_named_by_its_number_alone(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\ngood-key\n{line}\n")
    with pytest.raises(ValueError, match=f"Line 4: {why}") as raised:
        keys_in(file)
    assert "secret-word" not in str(raised.value)


def test_one_name_has_one_set_of_scopes() -> None:
    with pytest.raises(ValueError, match="'alice' differ"):
        parse_keys(["alice use a", "alice operate b"])


def test_the_only_key_may_operate_unless_its_line_says_what_it_may() -> None:
    assert parse_keys(["k"])[0].scopes == set(SCOPES)
    assert parse_keys(["alice use k"])[0].scopes == {"use"}
    assert [key.scopes for key in parse_keys(["k", "l"])] == [{"use", "inspect"}] * 2


@given(st.text())
def test_any_line_is_a_key_or_refused(line: str) -> None:
    try:
        key = parse_key(line)
    except ValueError:
        return
    assert len(key.digest) == 32
    assert key.scopes <= set(SCOPES)


def test_the_documented_shell_line_makes_a_line_of_the_file(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    (line,) = [line.strip() for line in page.splitlines() if "sha256sum" in line]
    script = line.replace("openssl rand -hex 32", "echo 00112233445566778899")
    done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = parse_keys(keys_in(tmp_path / "keys"))
    assert made.name == "alice"
    assert made.digest == hashlib.sha256(done.stdout.strip().encode()).digest()


def test_hangup_calls_and_ends_nothing() -> None:
    """The signal alone; what is read then is the replica's: `test_replica`."""

    async def main() -> None:
        state = ready_state(fake_engine())
        called = asyncio.Event()

        async def hang_up_then_leave() -> None:
            os.kill(os.getpid(), signal.SIGHUP)
            await called.wait()
            os.kill(os.getpid(), signal.SIGTERM)

        await asyncio.wait_for(
            serve(
                create_app(state),
                state,
                bind("127.0.0.1", 0),
                load=hang_up_then_leave,
                on_hangup=called.set,
            ),
            20,
        )

    asyncio.run(main())


@pytest.mark.parametrize(("key", "status"), [("proms-key", 200), ("alices-key", 403)])
def test_the_prefix_cache_is_forgotten_for_the_operator_alone(key: str, status: int) -> None:
    engine = fake_engine()

    async def main() -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        async with client_over(ready_state(engine), ApiConfig(api_keys=LINES)) as client:
            return await client.post("/reset_prefix_cache", headers=headers)

    assert asyncio.run(main()).status_code == status
    assert engine.num_resets == (status == 200)

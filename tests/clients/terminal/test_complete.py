"""One prompt in, plain text out, an exit code that scripts can trust."""

import subprocess
import sys
import threading
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.clients.stub import Stub, chat_events, error
from thirdeye.clients.terminal.calm import CALM
from thirdeye.clients.terminal.complete import run_complete

ROOT = Path(__file__).parents[3]


class Tty(StringIO):
    def isatty(self) -> bool:
        return True


def complete(
    stub: Stub, prompt: str | None = "hi", stdin: bytes = b"", out: Any = None, **options: Any
) -> tuple[int, str, str]:
    out, err = out or StringIO(), StringIO()
    code = run_complete(
        prompt, stub.url, model="tiny", stdin=BytesIO(stdin), stdout=out, stderr=err, **options
    )
    return code, out.getvalue(), err.getvalue()


def test_a_chat_by_default(stub: Stub) -> None:
    params = {"max_tokens": 5, "temperature": None}
    assert complete(stub, system="Be brief.", params=params) == (0, "Hello there!\n", "")
    assert stub.requests[0].json == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ],
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_raw_continues_the_prompt(stub: Stub) -> None:
    assert complete(stub, "Upon a time", raw=True) == (0, " once\n", "")
    assert stub.requests[0].path == "/v1/completions"
    assert stub.requests[0].json["prompt"] == "Upon a time"


@pytest.mark.parametrize(
    ("stdin", "prompt"),
    [(b"a\nb\n", "a\nb"), (b"a", "a"), (b"a\n\n", "a\n"), (b"a\r\n", "a"), ("🙂".encode(), "🙂")],
)
def test_the_prompt_from_stdin(stub: Stub, stdin: bytes, prompt: str) -> None:
    assert complete(stub, None, stdin, raw=True)[0] == 0
    assert stub.requests[0].json["prompt"] == prompt


@pytest.mark.parametrize(
    ("prompt", "stdin", "message"),
    [
        (None, b"\n", "The prompt is empty: give it as an argument or on the standard input.\n"),
        ("", b"", "The prompt is empty: give it as an argument or on the standard input.\n"),
        (None, b"caf\xe9", "The prompt is not UTF-8.\n"),
        ("caf\udce9", b"", "The prompt is not UTF-8.\n"),
    ],
)
def test_no_usable_prompt(stub: Stub, prompt: str | None, stdin: bytes, message: str) -> None:
    assert complete(stub, prompt, stdin) == (2, "", message)
    assert stub.requests == []


def test_a_system_prompt_needs_a_chat(stub: Stub) -> None:
    code, _, err = complete(stub, raw=True, system="x")
    assert (code, err) == (2, "'system' needs a chat: it cannot go with 'raw'.\n")


def test_a_refusal(stub: Stub) -> None:
    stub.reply(error("'n' is\x1b wrong."), 400)
    assert complete(stub) == (1, "", "'n' is wrong. (400)\n")


def test_a_broken_stream_is_a_failure_and_its_text_is_kept(stub: Stub) -> None:
    stub.stream(*chat_events("half")[:-1])
    code, out, err = complete(stub)
    assert (code, out) == (1, "half")
    assert "without [DONE]" in err


def test_no_server() -> None:
    with Stub() as gone:
        pass
    code, out, err = complete(gone)
    ways_out = "Start one with: thirdeye serve, or name one with --url.\n"
    assert (code, out, err) == (1, "", f"No server answers at {gone.url}. {ways_out}")


def test_a_url_that_is_none() -> None:
    err = StringIO()
    assert run_complete("hi", "localhost", stderr=err) == 2
    assert err.getvalue().startswith("'--url' must be like http://")


def test_a_pipe_gets_the_text_as_it_is_and_a_terminal_no_controls(stub: Stub) -> None:
    for out, expected in ((StringIO(), "\x1b[2Jx\r\n"), (Tty(), "[2Jx\n")):
        stub.stream(*chat_events("\x1b[2Jx\r"))
        assert complete(stub, out=out)[1] == expected


def test_an_interrupt(stub: Stub) -> None:
    class Interrupted(StringIO):
        def write(self, text: str) -> int:
            raise KeyboardInterrupt

    stub.stream(*chat_events("x")[:2], threading.Event())
    assert complete(stub, out=Interrupted()) == (130, "", "")
    assert stub.requests[0].client_left.wait(5)


def test_a_reader_that_leaves(stub: Stub) -> None:
    """`... | head -c 5`: quiet, quick, and the server stops."""
    stub.stream(*chat_events("first", *["more"] * 50)[:-1], threading.Event())
    run = "run_complete('x', model='tiny')"
    program = (
        f"import sys; from thirdeye.clients.terminal.complete import run_complete; sys.exit({run})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "OPENAI_BASE_URL": stub.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    try:
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (141, b"")
    assert stub.requests[0].client_left.wait(5)


@pytest.mark.parametrize(
    ("card", "calm"),
    [
        ({}, 0.3),
        ({"generation_defaults": {"temperature": None, "top_p": None}}, 0.3),
        ({"generation_defaults": {"temperature": 0.6, "top_p": None}}, None),
    ],
)
def test_a_model_that_says_how_it_is_sampled_is_left_to_it(
    stub: Stub, card: dict[str, Any], calm: float | None
) -> None:
    """Any other gets a calm temperature and the penalty that keeps it from going round in circles;
    what a person asked for counts in any case."""

    def sent(**params: float) -> tuple[Any, Any]:
        if not params.keys() >= CALM.keys():  # else nobody asks for the models
            stub.reply({"object": "list", "data": [{"id": "tiny", **card}]})
        assert complete(stub, params=params, is_calm=True)[0] == 0
        body = stub.requests[-1].json
        return body.get("temperature"), body.get("frequency_penalty")

    assert sent() == (calm, calm)
    assert sent(temperature=1.5) == (1.5, calm)
    assert sent(frequency_penalty=0.0) == (calm, 0.0)
    assert sent(temperature=0.0, frequency_penalty=1.0) == (0.0, 1.0)


def test_the_calm_values_are_those_of_the_page() -> None:
    page = (ROOT / "server/web/chat/request.js").read_text()
    values = ", ".join(f"{name}: {value}" for name, value in CALM.items())
    assert f"{{ {values} }}" in page


def test_it_goes_on_at_another_server() -> None:
    """The first one is not there; without a seed nobody could go on."""
    with Stub() as stub:
        out, err = StringIO(), StringIO()
        urls = ["http://127.0.0.1:9", stub.url]
        options = {"model": "tiny", "stdout": out, "stderr": err, "is_calm": True}
        code = run_complete("hi", urls, params={"seed": 7}, is_resumed=True, **options)
        assert (code, out.getvalue(), err.getvalue()) == (0, "Hello there!\n", "")
        assert stub.requests[-1].json["seed"] == 7
        assert run_complete("hi", urls, is_resumed=True, **options) == 2
        assert "'seed'" in err.getvalue()

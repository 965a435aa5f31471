"""The shell scripts against the stub: nasty prompts in, nasty answers out, failures told.

What they send is parsed by Python's JSON, what they print is compared byte for byte.
"""

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clients.stub import (
    DONE,
    Stub,
    chat_events,
    completion_events,
    error,
    event,
)
from tests.draws import also_at_night, draws, pairwise

ROOM = Path(__file__).parents[2] / "clients"
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]

NASTY = [
    'quotes "double" and \'single\' and \\backslash\\ and \\" both',
    "newline\nblank\n\nend\n",
    "tab\there, return\rthere, bell\a, escape\x1b[31m, delete\x7f, unit\x1f",
    "é ß 漢字 🙂 👩‍👩‍👧 \u2028 \ufeff \U0010ffff",
    "$HOME `id` $(id) %s %d \\n \\u0041 \\0101 ${x} * ? [a] ~ & | ; < > # !",
    '{"content":"fake"} "text":"fake" data: [DONE] status: 500 "error":{',
    "/" * 10 + "\\" * 7,
    " leading and trailing ",
]


def run(
    stub_url: str,
    script: str,
    *args: str,
    stdin: str = "",
    shell: str = "sh",
    key: str = "",
    **variables: str,
) -> subprocess.CompletedProcess[bytes]:
    command = [shell, *(["sh"] if shell == "busybox" else []), str(ROOM / script), *args]
    environment = {"PATH": "/usr/bin:/bin", "OPENAI_BASE_URL": stub_url, "OPENAI_API_KEY": key}
    environment |= variables
    return subprocess.run(
        command, input=stdin.encode(), capture_output=True, env=environment, timeout=60
    )


@also_at_night
@pytest.mark.parametrize(("text", "shell", "ascii_json"), pairwise(NASTY, SHELLS, [False, True]))
def test_text_goes_both_ways_unchanged(stub: Stub, shell: str, text: str, ascii_json: bool) -> None:
    stub.stream(*chat_events(text, "!", ascii_json=ascii_json, spaces=ascii_json))
    done = run(stub.url, "chat.sh", "-m", "tiny", "-s", text, text, shell=shell)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == text + "!\n"
    assert stub.requests[0].json == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": text},
            {"role": "user", "content": text},
        ],
        "temperature": 0.3,
        "stream": True,
    }


# No NUL in arguments, no half surrogates in UTF-8.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@draws(8, 25)
@given(text=TEXTS, ascii_json=st.booleans())
def test_any_text_goes_both_ways_unchanged(text: str, ascii_json: bool) -> None:
    with Stub() as stub:
        stub.stream(*chat_events(text, "!", ascii_json=ascii_json))
        done = run(stub.url, "chat.sh", "-m", "tiny", "--", text)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == text + "!\n"
    assert stub.requests[-1].json["messages"][0]["content"] == text


@pytest.mark.parametrize("stdin", ["one\ntwo\n\n", "no newline at the end", "\n\n", 'a "b"\r\n'])
def test_complete_takes_its_prompt_from_stdin(stub: Stub, stdin: str) -> None:
    """Less one newline, which `echo` put there."""
    stub.stream(*completion_events(" on", "ce\n"))
    done = run(stub.url, "complete.sh", "-m", 'ti"ny', "-n", "7", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b" once\n\n"
    request = stub.requests[0]
    assert request.path == "/v1/completions"
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "model": 'ti"ny',
        "prompt": stdin.removesuffix("\n"),
        "max_tokens": 7,
        "temperature": 0.3,
        "stream": True,
    }


@pytest.mark.parametrize("script", ["chat.sh", "complete.sh"])
def test_without_a_model_the_first_one_is_taken(stub: Stub, script: str) -> None:
    served = {"object": "list", "data": [{"id": 'org/"x"\\y', "object": "model"}, {"id": "b"}]}
    stub.reply(json.dumps(served, indent=2).encode())
    assert run(stub.url, script, "hi").returncode == 0
    assert [request.method for request in stub.requests] == ["GET", "POST"]
    assert stub.requests[1].json["model"] == 'org/"x"\\y'


def test_a_url_without_a_path_gets_v1(stub: Stub) -> None:
    assert run(f"http://127.0.0.1:{stub.port}/", "chat.sh", "hi").returncode == 0
    assert stub.requests[0].path == "/v1/models"


@pytest.mark.parametrize("script", ["chat.sh", "complete.sh"])
def test_the_key_is_sent_and_in_no_argument(stub: Stub, script: str) -> None:
    """`ps` shows arguments to everybody: curl gets key and prompt by its standard input."""
    key = 'sk-"se\\cret"'
    trace = run(stub.url, script, "-m", "tiny", "hi there", key=key)
    assert trace.returncode == 0
    assert stub.requests[0].headers["authorization"] == f"Bearer {key}"


def test_curls_arguments_hold_neither_key_nor_prompt(stub: Stub, tmp_path: Path) -> None:
    fake = tmp_path / "curl"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$0.args"\ncat >"$0.stdin"\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "OPENAI_API_KEY": "sk-secret"}
    command = ["sh", str(ROOM / "chat.sh"), "-m", "tiny", "private"]
    subprocess.run(command, env=environment, capture_output=True, timeout=60)
    arguments = (tmp_path / "curl.args").read_text()
    assert "secret" not in arguments
    assert "private" not in arguments
    assert "sk-secret" in (tmp_path / "curl.stdin").read_text()


def test_a_chat_remembers(stub: Stub) -> None:
    """The second question carries the first one and its answer, escapes and all."""
    stub.stream(*chat_events('say "hi"\n', "🙂", ascii_json=True))
    done = run(stub.url, "chat.sh", "-m", "tiny", stdin="one \\ two\n\nthree")
    assert done.stdout.decode() == 'say "hi"\n🙂\nHello there!\n'
    assert stub.requests[1].json["messages"] == [
        {"role": "user", "content": "one \\ two"},
        {"role": "assistant", "content": 'say "hi"\n🙂'},
        {"role": "user", "content": "three"},
    ]


def test_a_failed_turn_is_forgotten_and_told(stub: Stub) -> None:
    stub.reply(error("busy"), 503)
    done = run(stub.url, "chat.sh", "-m", "tiny", stdin="one\ntwo\n")
    assert (done.returncode, done.stdout) == (1, b"Hello there!\n")
    assert done.stderr == b"busy (503)\n"
    assert [m["content"] for m in stub.requests[1].json["messages"]] == ["two"]


@pytest.mark.parametrize("script", ["chat.sh", "complete.sh"])
@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, json.dumps(error("'n' must be \"1\"\n.")), "'n' must be \"1\"\n. (400)\n"),
        (401, json.dumps(error("No key."), indent=2), "No key. (401)\n"),
        (404, '{"error": "model not found"}', "model not found (404)\n"),
        (405, '{"detail":"Method Not Allowed"}', "Method Not Allowed (405)\n"),
        (502, "<html>\nbad gateway\n</html>", "The server gave no reason. (502)\n"),
        (500, "", "The server gave no reason. (500)\n"),
    ],
)
def test_refusals_are_told(stub: Stub, script: str, status: int, body: str, message: str) -> None:
    stub.reply(body.encode(), status)
    done = run(stub.url, script, "-m", "tiny", "hi")
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", message)


def test_a_refused_model_list_is_told(stub: Stub) -> None:
    stub.reply(error("No key."), 401)
    done = run(stub.url, "chat.sh", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"No key. (401)\n")


def test_an_error_in_mid_stream(stub: Stub) -> None:
    broken = event({"error": {"message": "engine died", "type": "server_error", "code": None}})
    stub.stream(*chat_events("so far")[:2], broken, DONE)
    done = run(stub.url, "chat.sh", "-m", "tiny", "hi")
    assert (done.returncode, done.stdout) == (1, b"so far\n")
    assert done.stderr == b"engine died (in mid-stream)\n"


@pytest.mark.parametrize("whole", [True, False])
def test_a_stream_without_done(stub: Stub, whole: bool) -> None:
    stub.stream(*chat_events("so far")[:-1], whole=whole)
    done = run(stub.url, "chat.sh", "-m", "tiny", "hi")
    assert (done.returncode, done.stdout) == (1, b"so far\n")
    assert b"without [DONE]" in done.stderr


def test_no_server() -> None:
    with Stub() as gone:
        url = gone.url
    done = run(url, "chat.sh", "-m", "tiny", "hi")
    assert done.returncode == 1
    reason = f"No server answers at {url}. Start one with: thirdeye serve, or name one in "
    assert done.stderr.decode().endswith(f"{reason}OPENAI_BASE_URL.\n")


def test_pings_names_and_crlf_are_no_text(stub: Stub) -> None:
    data = b": ping\n\nevent: message\nid: 3\n" + b"".join(chat_events("one", "two"))
    stub.stream(data.replace(b"\n", b"\r\n"))
    done = run(stub.url, "chat.sh", "-m", "tiny", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"onetwo\n", b"")


def test_half_a_surrogate_pair_is_no_character(stub: Stub) -> None:
    """JSON can spell it, UTF-8 cannot: U+FFFD stands for it, and what follows is kept."""
    lines = ['{"choices":[{"delta":{"content":"a\\ud83dx\\ude42\\u00e9\\uD83D\\uDE42"}}]}']
    stub.stream(*map(event, lines), DONE)
    done = run(stub.url, "chat.sh", "-m", "tiny", "hi")
    assert done.stdout.decode() == "a\ufffdx\ufffdé🙂\n"


def test_text_arrives_as_it_is_made(stub: Stub) -> None:
    """The first chunk is printed while the server still works on the second."""
    events = chat_events("first", "second")
    gate = threading.Event()
    stub.stream(*events[:2], gate, *events[2:])
    process = subprocess.Popen(
        ["sh", str(ROOM / "chat.sh"), "-m", "tiny", "hi"],
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "OPENAI_BASE_URL": stub.url},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"first"
        gate.set()
        assert process.stdout.read() == b"second\n"
    assert process.returncode == 0


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("ascii_json", [False, True], ids=["utf8", "ascii"])
def test_a_model_does_not_steer_the_terminal(stub: Stub, shell: str, ascii_json: bool) -> None:
    """Neither by control characters nor by turning a line round; what people write stays."""
    evil = "a\x1b]0;t\x07b\x7fc\x9b31md\u202ee\u2066f\u2028g"
    kept = "é “quoted” 漢字 🙂 👩‍👩‍👧"
    stub.stream(*chat_events(evil + kept, ascii_json=ascii_json))
    shown = run_on_a_terminal(stub.url, shell)
    assert shown == f"a]0;tbc31mdefg{kept}\n"


def run_on_a_terminal(stub_url: str, shell: str) -> str:
    """What `chat.sh` shows where its output is a terminal."""
    main, side = pty.openpty()
    command = [shell, *(["sh"] if shell == "busybox" else []), str(ROOM / "chat.sh"), "-m", "t"]
    environment = {"PATH": "/usr/bin:/bin", "OPENAI_BASE_URL": stub_url}
    subprocess.run([*command, "Hi"], stdout=side, env=environment, timeout=60, check=True)
    os.close(side)
    shown = b""
    with suppress(OSError), os.fdopen(main, "rb", buffering=0) as terminal:
        while piece := terminal.read(4096):  # the end is an error, once nobody writes any more
            shown += piece
    return shown.decode().replace("\r\n", "\n")


def test_an_answer_without_end_is_left(stub: Stub) -> None:
    """One line that never ends must not fill the memory."""
    stub.stream(*[b"data: " + b"a" * 2**20] * 24, chunked=False)
    done = run(stub.url, "chat.sh", "-m", "tiny", "Hi", max_blocks="1000")
    assert done.returncode == 1
    assert len(done.stdout) + len(done.stderr) < 1000


@pytest.mark.parametrize(
    ("script", "args"),
    [("complete.sh", ["-n", "many"]), ("chat.sh", ["-x"]), ("complete.sh", ["-x"])],
)
def test_wrong_usage(stub: Stub, script: str, args: list[str]) -> None:
    done = run(stub.url, script, *args, "hi")
    assert done.returncode == 2
    assert done.stderr
    assert stub.requests == []


@pytest.mark.parametrize("script", ["chat.sh", "complete.sh", "wire.sh"])
def test_shellcheck_finds_nothing(script: str) -> None:
    """No warning, in POSIX sh."""
    command = [str(Path(sys.executable).with_name("shellcheck")), "--external-sources"]
    done = subprocess.run([*command, str(ROOM / script)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")

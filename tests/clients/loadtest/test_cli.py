"""`thirdeye bench` as it is typed, against the stub on real sockets; what it shows and writes."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.clients.loadtest.server import Answer, Server
from tests.clients.loadtest.virtual import now
from tests.clients.loadtest.virtual import run as in_virtual_time
from tests.clients.stub import Stub, error
from thirdeye.clients.loadtest.cli import app, read_params
from thirdeye.clients.loadtest.load_settings import LoadSettings
from thirdeye.clients.loadtest.progress import LiveProgress
from thirdeye.clients.loadtest.results.result import NoResult, read_result
from thirdeye.clients.loadtest.run import run

ROOT = Path(__file__).resolve().parents[3]


def bench(*args: Any) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_a_run_is_shown_and_written(stub: Stub, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = bench("serve", stub.url, "-c", 2, "-n", 4, "-o", file, "--param", "top_p=0.9")
    assert done.exit_code == 0, done.output
    assert "tiny at http://127.0.0.1" in done.stdout
    assert "2 users" in done.stdout
    assert "first token (TTFT)" in done.stdout
    result = read_result(file)
    (point,) = result["points"]
    assert (point["whole"], point["output_tokens"]) == (4, 12)
    assert stub.requests[-1].json["top_p"] == 0.9
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_trace_is_replayed(stub: Stub, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    rows = [{"at": i / 100, "prompt": f"Question {i}", "max_tokens": 5} for i in range(3)]
    trace.write_text("\n".join(json.dumps(row) for row in rows))
    done = bench("serve", stub.url, "--trace", trace, "--warmup", 0, "--model", "tiny")
    assert done.exit_code == 0, done.output
    sent = sorted(request.json["messages"][0]["content"] for request in stub.requests)
    assert sent == ["Question 0", "Question 1", "Question 2"]
    assert {request.json["max_tokens"] for request in stub.requests} == {5}


def test_failures_are_shown_and_are_the_exit_code(stub: Stub) -> None:
    for _ in range(2):
        stub.reply(error("Full."), 429)
    done = bench("serve", stub.url, "-n", 2, "--warmup", 0, "--model", "tiny")
    assert done.exit_code == 1
    assert "failed: 2 x 429" in done.stderr


def test_no_server() -> None:
    with Stub() as gone:
        url = gone.url
    done = bench("serve", url, "-n", 1)
    assert done.exit_code == 1
    assert "No answer from" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["localhost:8000"], "'base_url' must be like"),
        (["http://x", "--endpoint", "talk"], "'endpoint' must be chat or completions"),
        (["http://x", "--param", "top_p"], "'param' must be like top_p=0.9"),
        (["http://x", "--goodput", "speed:1"], "A goal is like ttft:200"),
        (["http://x", "--rate", "0"], "must be greater than 0"),
        (["http://x", "--burstiness", "much"], "could not convert"),
    ],
)
def test_wrong_usage(args: list[str], message: str) -> None:
    done = bench("serve", *args)
    assert done.exit_code == 2
    assert message in done.stderr


def test_params_are_json() -> None:
    assert read_params(["a=1", 'b="x"', "c=[1]"]) == {"a": 1, "b": "x", "c": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "is no result"), ('{"benchmark": "serve"}', "has version None")],
)
def test_a_file_that_is_no_result(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(NoResult, match=message):
        read_result(file)


def test_it_is_a_command_of_the_program() -> None:
    command = [sys.executable, "-m", "thirdeye.server.cli", "bench", "serve", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert "Send load to a server" in done.stdout


def test_progress_is_drawn_at_a_terminal_and_only_there() -> None:
    """How far, how many at once, how fast, what failed; the screen is given back at the end."""
    shown: dict[bool, str] = {}
    for is_terminal in (True, False):
        out = StringIO()
        server = Server(lambda body, index: Answer(status=429) if index == 5 else Answer())
        progress = LiveProgress(Console(file=out, force_terminal=is_terminal, width=120))

        async def main(server: Server = server, progress: LiveProgress = progress) -> None:
            async with server.listen():
                plan = LoadSettings(model="tiny", warmup=0, num_requests=12, concurrency=(2,))
                await run(server.target, plan, progress, clock=now)

        in_virtual_time(main())
        shown[is_terminal] = out.getvalue()
    for part in ("/12 done, ", "2 running", " tok/s", "first text 500 ms", "1 failed", "█"):
        assert part in shown[True]
        assert part not in shown[False] or part == " tok/s"
    assert shown[True].count("\x1b[?25l") == shown[True].count("\x1b[?25h") == 1
    assert shown[False].count("\n") == 1

"""Our own clients against our own server: the whole house, from a terminal to the transformer."""

import json
import subprocess

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.e2e.live import ROOT, LiveServer
from thirdeye.clients import BadRequest, Client, ContextLengthExceeded
from thirdeye.server.cli import app


@pytest.fixture
def client(tiny_server):
    with Client(tiny_server.url) as client:
        yield client


def run(server: LiveServer, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "OPENAI_BASE_URL": f"{server.url}/v1"},
        timeout=60,
    )


def thirdeye(server: LiveServer, *args: str, stdin: str = "") -> Result:
    """The command without a process of its own, of which `test_readme.py` has some."""
    env = {"OPENAI_BASE_URL": f"{server.url}/v1"}
    return CliRunner().invoke(app, args, input=stdin, env=env, catch_exceptions=False)


def test_a_stream_is_the_answer_in_pieces(client):
    """Same seed, streamed and whole: the same text, finish reason and usage."""
    params = {"max_tokens": 24, "seed": 7, "ignore_eos": True}
    whole = client.chat("Greasy fried noodles", **params)
    with client.stream_chat("Greasy fried noodles", **params) as stream:
        pieces = [chunk.text for chunk in stream]
        streamed = stream.answer()
    assert "".join(pieces) == streamed.text == whole.text
    assert streamed.finish_reason == whole.finish_reason == "length"
    assert streamed.usage.completion_tokens == whole.usage.completion_tokens == 24


def test_text_to_tokens_and_back(client):
    tokens = client.tokenize("Greasy fried noodles 🍜")
    assert client.detokenize(tokens.tokens) == "Greasy fried noodles 🍜"
    assert next(model.id for model in client.models()) == "tiny"
    assert client.health().ok


def test_a_look_inside(client):
    """Each row of a pattern adds up to one, above the diagonal is nothing."""
    inside = client.inspect("Greasy fried noodles", layers=[0], include=["pattern"])
    (layer,) = inside.layers
    rows = layer["pattern"][0]
    assert len(rows) == len(inside.tokens)
    for i, row in enumerate(rows):
        assert sum(row) == pytest.approx(1, abs=1e-4)
        assert not any(row[i + 1 :])
    assert inside.next_token[0][0]["logprob"] <= 0


def test_the_load_tester(tiny_server):
    """`thirdeye bench` against a real server: every answer whole, tokens as asked for."""
    options = ["-c", "2", "-n", "4", "--max-tokens", "8", "--prompt-tokens", "5", "--ignore-eos"]
    done = thirdeye(tiny_server, "bench", "serve", tiny_server.url, *options)
    assert done.exit_code == 0, done.stderr
    assert "4 of 4 answers whole" in done.stderr
    assert "32 output tokens" in done.stdout


def test_errors_have_names(client):
    """A limit crossed is an exception that says which."""
    with pytest.raises(ContextLengthExceeded, match="maximum context length is 256 tokens"):
        client.chat("word " * 2000)
    with pytest.raises(BadRequest, match="'temperature' must be between 0 and 2"):
        client.chat("hello", temperature=3)


@pytest.mark.parametrize("script", ["clients/chat.sh", "clients/complete.sh"])
def test_the_scripts_stream_an_answer(tiny_server, script):
    """curl and standard tools are enough."""
    done = run(tiny_server, "sh", script, "-m", "tiny", "Greasy fried noodles")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_complete_reads_a_pipe(tiny_server, client):
    """`thirdeye complete` takes its prompt from standard input and prints the text alone."""
    greedy = ["--temperature", "0", "--frequency-penalty", "0"]
    options = ["--raw", "--max-tokens", "12", *greedy]
    done = thirdeye(tiny_server, "complete", *options, stdin="Greasy fried noodles\n")
    assert (done.exit_code, done.stderr) == (0, "")
    expected = client.complete("Greasy fried noodles", max_tokens=12, temperature=0)
    assert done.stdout.rstrip("\n") == expected.text.rstrip("\n")


def test_chat_in_a_pipe(tiny_server):
    """`thirdeye chat` takes a line, answers it, and leaves at the end of the input."""
    lines = "/system Be brief.\nhello\n"
    done = thirdeye(tiny_server, "chat", "--model", "tiny", stdin=lines)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip()


def test_the_answer_says_where_the_time_went(client):
    """Usage and timings come with every answer."""
    answer = client.chat("hello", max_tokens=4, ignore_eos=True)  # which it may draw
    assert answer.usage.prompt_tokens > 0
    assert answer.raw["timings"]["predicted_n"] == 4
    assert json.dumps(answer.raw)

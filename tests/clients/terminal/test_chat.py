"""The terminal chat: driven by a fake keyboard, and once as a real program on a real terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.clients.stub import DONE, Stub, chat_events, error, event
from tests.clients.terminal.test_screen import Lines
from thirdeye.clients.terminal.chat import run_chat

ROOT = Path(__file__).parents[3]


class Screen:
    """Runs a chat over fake consoles; `out` and `err` are what was written."""

    def __init__(self, stub_url: str, *, is_terminal: bool = False) -> None:
        self.url = stub_url
        self.is_terminal = is_terminal
        self.out = self.err = ""

    def type(self, *lines: str, read_line: Any = None, **options: Any) -> int:
        out, err = StringIO(), StringIO()
        console = Console(file=out, force_terminal=self.is_terminal, color_system=None)
        errors = Console(file=err, force_terminal=self.is_terminal, color_system=None)
        code = run_chat(
            self.url,
            console=console,
            errors=errors,
            read_line=read_line or Lines(*lines),
            **options,
        )
        self.out, self.err = out.getvalue(), err.getvalue()
        return code


@pytest.fixture
def pipe(stub: Stub) -> Screen:
    return Screen(stub.url)


@pytest.fixture
def terminal(stub: Stub) -> Screen:
    return Screen(stub.url, is_terminal=True)


def contents(stub: Stub, index: int) -> list[str]:
    return [message["content"] for message in stub.requests[index].json["messages"]]


def test_thoughts_are_folded(terminal: Screen, pipe: Screen, stub: Stub) -> None:
    """Whoever waits at a terminal is told that there are some; the answer is the answer."""
    deltas = [{"reasoning_content": "Hm, "}, {"reasoning": "well."}]
    thoughts = [event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    first, *rest = chat_events("Hello!")
    for screen in (terminal, pipe):
        stub.stream(first, *thoughts, *rest)
        screen.type("Hi", model="tiny")
        assert "Hello!" in screen.out
        assert "well" not in screen.out
        assert screen.out.count("(thinking)") == screen.is_terminal


def test_a_pipe_gets_the_answers_alone(pipe: Screen, stub: Stub) -> None:
    """No greeting, no prompt, no colour; the first model of the server; history in each request."""
    assert pipe.type("one", "", "two") == 0
    assert (pipe.out, pipe.err) == ("Hello there!\nHello there!\n", "")
    assert stub.requests[1].json["model"] == "tiny"
    assert contents(stub, 2) == ["one", "Hello there!", "two"]


def test_a_pipe_gets_what_a_command_was_typed_for(pipe: Screen, stub: Stub) -> None:
    """Not what it confirms: the answers and what was asked for, in their order."""
    pipe.type("/system Be brief.", "one", "/stats", "/clear", "/system", "/model", "/help")
    answer, stats, system, model, _, help_ = pipe.out.split("\n", 5)
    assert answer == "Hello there!"
    assert "3 answer tokens" in stats
    assert system == "System prompt: Be brief."
    assert model == "* tiny"
    assert help_.startswith("/system TEXT")


def test_a_given_model_is_not_asked_for(pipe: Screen, stub: Stub) -> None:
    pipe.type("one", model="big", system="Be brief.")
    assert stub.requests[0].json["model"] == "big"
    assert contents(stub, 0) == ["Be brief.", "one"]


def test_text_passes_as_it_is(pipe: Screen, stub: Stub) -> None:
    """Markup, long lines and spaces of the model are not rich's to interpret."""
    text = " [bold]x[/bold] :smile: " + "long " * 100 + "\n\n  indented 🙂 "
    stub.stream(*chat_events(*(text[i : i + 7] for i in range(0, len(text), 7))))
    pipe.type("one", model="tiny")
    assert pipe.out == text + "\n"


def test_a_model_cannot_steer_the_terminal(terminal: Screen, stub: Stub) -> None:
    stub.stream(*chat_events("\x1b", "[2J\x9b5mred\r"))
    terminal.type("one", model="tiny")
    assert "[2J5mred" in terminal.out
    assert "\x1b[2J" not in terminal.out


def test_several_lines_are_one_message(pipe: Screen, stub: Stub) -> None:
    pipe.type("one\\", "two", '"""', "/three", '"""', model="tiny")
    assert contents(stub, 0) == ["one\ntwo"]
    assert len(stub.requests) == 1, "a block that begins with a slash is a command, too"


def test_commands(terminal: Screen, stub: Stub) -> None:
    code = terminal.type(
        "/stats",
        "/system You are a pirate.",
        "one",
        "/stats",
        "/clear",
        "/system",
        "two",
        "/system -",
        " /three",
        "/help",
        "/nonsense x",
        "/exit",
        "never",
    )
    assert code == 0
    assert "No answer yet." in terminal.out
    assert "5 prompt tokens (2 cached), 3 answer tokens, 0.01 s to the first" in terminal.out
    assert "50.0 tokens/s" in terminal.out
    assert "/system TEXT" in terminal.out
    assert terminal.err == "Unknown command /nonsense: /help lists what there is.\n"
    chats = [contents(stub, index) for index in range(1, len(stub.requests))]
    assert chats == [
        ["You are a pirate.", "one"],
        ["You are a pirate.", "two"],
        ["two", "Hello there!", "/three"],
    ]


def test_an_interrupt_stops_the_answer_and_not_the_program(terminal: Screen, stub: Stub) -> None:
    """What had come stays in the conversation, the server is told by a closed connection."""
    stub.stream(*chat_events("begun")[:2], threading.Event())
    server_hears: list[bool] = []

    class Interrupting(Console):
        def out(self, *objects: Any, **options: Any) -> None:
            super().out(*objects, **options)
            if objects == ("begun",):
                raise KeyboardInterrupt

    out = StringIO()
    console = Interrupting(file=out, force_terminal=True, color_system=None)

    lines = iter(["one", "/stats", "two", "/exit"])

    def read_line(_: str) -> str:
        line = next(lines)
        if line == "/stats":
            server_hears.append(stub.requests[0].client_left.wait(5))
        return line

    assert (
        run_chat(stub.url, model="tiny", console=console, read_line=read_line, is_plain=True) == 0
    )
    assert server_hears == [True]
    assert "(stopped)" in out.getvalue()
    assert "about 1 answer tokens, by the pieces of text that came, " in out.getvalue()
    assert contents(stub, 1) == ["one", "begun", "two"]


def test_an_interrupt_at_the_prompt_does_not_leave(terminal: Screen) -> None:
    keys: Iterator[Any] = iter([KeyboardInterrupt, "hi", EOFError])

    def read_line(_: str) -> str:
        key = next(keys)
        if isinstance(key, str):
            return key
        raise key

    assert terminal.type(read_line=read_line) == 0
    assert "Ctrl-D or /exit leaves." in terminal.out
    assert "Hello there!" in terminal.out


@pytest.mark.parametrize(("is_terminal", "code"), [(True, 0), (False, 1)])
def test_a_failed_answer_is_told_and_forgotten(stub: Stub, is_terminal: bool, code: int) -> None:
    """The chat goes on; a script learns of it by the exit code."""
    broken = event({"error": {"message": "engine\x1b died", "type": "server_error"}})
    stub.stream(*chat_events("half")[:2], broken, DONE)
    stub.reply(error("Too long.", "context_length_exceeded"), 400)
    screen = Screen(stub.url, is_terminal=is_terminal)
    assert screen.type("one", "two", "three", model="tiny") == code
    assert screen.err == ("engine died (in mid-stream)\nToo long. (400) /clear starts over.\n")
    assert re.search(r"half *\n", screen.out), "what had come stands on a line of its own"
    assert contents(stub, 2) == ["three"]


def test_bytes_that_are_no_text_are_refused(pipe: Screen, stub: Stub) -> None:
    assert pipe.type("caf\udce9", "two", model="tiny") == 1
    assert pipe.err == "The message is not UTF-8.\n"
    assert contents(stub, 0) == ["two"]


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, with the way out: nothing is tried again."""
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with Stub() as gone:
        screen = Screen(gone.url)
    assert screen.type("hi") == 1
    ways_out = "Start one with: thirdeye serve, or name one with --url.\n"
    assert screen.err == f"No server answers at {gone.url}. {ways_out}"


def test_no_model_and_no_key(pipe: Screen, stub: Stub) -> None:
    stub.reply({"data": []})
    assert pipe.type("hi") == 1
    assert "lists no model" in pipe.err
    stub.reply(error("Key missing."), 401)
    assert pipe.type("hi") == 1
    assert pipe.err == "Key missing. (401)\n"


def test_a_url_that_is_none() -> None:
    screen = Screen("localhost:8000")
    assert screen.type("hi") == 2
    assert "'--url' must be like" in screen.err


# --- files and models


def test_a_conversation_is_saved_and_gone_on_with(
    terminal: Screen, stub: Stub, tmp_path: Path
) -> None:
    """What was said and the system prompt; a file that is there is not replaced."""
    file = tmp_path / "talk.json"
    terminal.type("/system Be brief.", "one", f"/save {file}", f"/save {file}", model="tiny")
    assert terminal.err == f"{file} is there already: choose another name.\n"
    terminal.type(f"/load {file}", "two", "/system", model="tiny")
    assert contents(stub, 1) == ["Be brief.", "one", "Hello there!", "two"]
    assert "System prompt: Be brief." in terminal.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON."),
        ("[]", "holds no conversation."),
        ('{"messages": [{"role": "user", "content": 5}]}', "holds no conversation."),
        ('{"messages": [{"role": "system", "content": "x"}]}', "holds no conversation."),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_holds_no_conversation_changes_nothing(
    terminal: Screen, stub: Stub, tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "talk.json"
    if text is not None:
        file.write_text(text)
    assert terminal.type("one", f"/load {file}", "/load", "two", model="tiny") == 0
    assert message in terminal.err
    assert "No file" in terminal.err or "Is a directory" in terminal.err
    assert contents(stub, 1) == ["one", "Hello there!", "two"]


def test_another_model_of_the_server(terminal: Screen, stub: Stub) -> None:
    terminal.type("/model", "/model big", "one", "/model huge", model="tiny")
    assert "* tiny\n  big" in terminal.out
    assert "  tiny\n* big" in terminal.out
    assert stub.requests[2].json["model"] == "big"
    assert terminal.err == "No model huge here: tiny, big.\n"


# --- the program itself


PROGRAM = """
import fcntl, signal, sys, termios
# a suite in the background of a shell inherits that it is ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that ^C on this terminal is a SIGINT to this program
from thirdeye.clients.terminal.chat import run_chat
sys.exit(run_chat())
"""


class Terminal:
    """A program on a pseudo-terminal: `type` keys, `see` text."""

    def __init__(self, stub_url: str, **environment: str) -> None:
        self.keys, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        base = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "OPENAI_BASE_URL": stub_url}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=base | environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.screen = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, text: str) -> None:
        os.write(self.keys, text.encode())

    def see(self, text: str, count: int = 1) -> None:
        deadline = time.monotonic() + 100
        while self.screen.count(text) < count:
            assert time.monotonic() < deadline, f"no {text!r} in {self.screen!r}"
            time.sleep(0.01)

    def end(self) -> int:
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        os.close(self.keys)

    def _read(self) -> None:
        with suppress(OSError):
            while data := os.read(self.keys, 4096):
                self.screen += data.decode(errors="replace")


@pytest.fixture
def start(stub: Stub) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(**environment: str) -> Terminal:
        made.append(Terminal(stub.url, **environment))
        return made[-1]

    yield make
    for terminal in made:
        terminal.close()


def test_on_a_real_terminal(start: Callable[..., Terminal], stub: Stub) -> None:
    """Ctrl-C while it streams stops the answer; the chat goes on; Ctrl-D leaves with 0.

    The terminal does not write its own ^C into an answer that is drawn anew: that left a part of it
    on the screen twice.
    """
    terminal = start()
    terminal.see("tiny at")
    stub.stream(*chat_events("begun")[:2], threading.Event())
    terminal.type("first\n")
    terminal.see("begun")
    modes = termios.tcgetattr(terminal.keys)[3]
    assert modes & termios.NOFLSH, "a ^C may throw away what is said behind it"
    terminal.type("\x03")
    terminal.see("(stopped)")
    assert stub.requests[1].client_left.wait(5)
    assert "^C" not in terminal.screen
    terminal.see("> ", count=2)
    terminal.type("second\n")
    terminal.see("second")
    terminal.see("Hello there!")
    terminal.see("> ", count=3)
    terminal.type("\x04")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.screen
    assert contents(stub, 2) == ["first", "begun", "second"]


def test_no_color_is_honoured(start: Callable[..., Terminal]) -> None:
    """NO_COLOR asks for no colour: an error that is red without it is plain."""
    for environment, is_red in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = start(**environment)
        terminal.see("tiny at")
        terminal.type("/nonsense\n/exit\n")
        terminal.see("Unknown command")
        assert terminal.end() == 0
        assert ("\x1b[31m" in terminal.screen) is is_red


def test_markdown_is_drawn_while_it_streams(start: Callable[..., Terminal], stub: Stub) -> None:
    """Bold is bold and fences are gone; a finished block stands before the answer is over."""
    terminal = start()
    terminal.see("tiny at")
    more = threading.Event()
    text = ["Some ", "**bo", "ld** words.\n\n", "```python\nx", " = 1\n```\n\n- item"]
    events = chat_events(*text)
    stub.stream(*events[:4], more, *events[4:])
    terminal.type("go\n")
    terminal.see("\x1b[1mbold\x1b[0m words.")
    more.set()
    terminal.see("• \x1b[0mitem")
    terminal.see("> ", count=2)
    terminal.type("/quit\n")
    assert terminal.end() == 0
    assert "```" not in terminal.screen
    assert "**bold" not in terminal.screen

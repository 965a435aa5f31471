"""Messages over lines, safe output, speed: the pure parts of the terminal programs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.clients.terminal.screen import describe_speed, printable, read_message
from thirdeye.clients.types import ChatAnswer, Usage


class Lines:
    """A keyboard that types these lines and then ends; remembers the prompts that it was shown."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)


@pytest.mark.parametrize(
    ("lines", "message", "left"),
    [
        (["one", "two"], "one", ["two"]),
        (["one\\", "two", "three"], "one\ntwo", ["three"]),
        (["one\\", "\\", "three"], "one\n\nthree", []),
        (["one\\"], "one", []),
        (['"""', "one", "", 'two"""', "x"], "one\n\ntwo", ["x"]),
        (['"""one', "two\\", '"""  '], "one\ntwo\\", []),
        (['"""all of it"""'], "all of it", []),
        (['"""', "no end"], "no end", []),
        (['in the """ middle'], 'in the """ middle', []),
        ([""], "", []),
    ],
)
def test_messages_over_lines(lines: list[str], message: str, left: list[str]) -> None:
    keyboard = Lines(*lines)
    assert read_message(keyboard, "> ", ". ") == message
    assert keyboard.lines == left


def test_the_second_line_has_its_own_prompt() -> None:
    keyboard = Lines("a\\", "b")
    read_message(keyboard, "> ", ". ")
    assert keyboard.prompts == ["> ", ". "]


def test_the_end_of_the_input_passes_through() -> None:
    with pytest.raises(EOFError):
        read_message(Lines())


@given(st.text())
def test_a_model_cannot_steer_the_terminal(text: str) -> None:
    """No ESC, no C1 control, no carriage return; everything that can be seen stays."""
    shown = printable(text)
    assert all(char in "\n\t" or not (ord(char) < 32 or 127 <= ord(char) < 160) for char in shown)
    assert shown == "".join(char for char in text if char in shown)
    assert printable("\x1b]0;title\x07\x9b31mred\r\n\tend 🙂") == "]0;title31mred\n\tend 🙂"


def test_what_hides_or_turns_a_line_is_not_shown() -> None:
    """A text must read on the screen as it is: no override of direction, no hidden tag."""
    hidden = "\u202a\u202e\u2066\u2069\u2028\u2029\u206a\ufff9\U000e0041"
    assert printable(f"rm{hidden} -rf") == "rm -rf"


def test_scripts_and_emoji_are_whole() -> None:
    text = "שלום עולם, مرحبا, नमस्ते क्‍ष, 👩‍👩‍👧, \u200e\u200f"
    assert printable(text) == text


def test_speed_by_the_servers_clock() -> None:
    timings = {"ttft_ms": 40.0, "predicted_ms": 500.0, "predicted_n": 20}
    answer = ChatAnswer("x", "stop", Usage(9, 20, 29, 4), timings)
    expected = "9 prompt tokens (4 cached), 20 answer tokens, 0.04 s to the first, 40.0 tokens/s"
    assert describe_speed(answer, first=1.0, total=9.0) == expected


def test_speed_by_the_clock_of_this_side() -> None:
    answer = ChatAnswer("x", "stop", Usage(9, 20, 29))
    expected = "9 prompt tokens, 20 answer tokens, 1.00 s to the first, 5.0 tokens/s"
    assert describe_speed(answer, first=1.0, total=5.0) == expected


@pytest.mark.parametrize("timings", [None, {"ttft_ms": "fast", "predicted_ms": 0}])
def test_speed_of_nothing(timings: dict[str, object] | None) -> None:
    """No division by zero, whatever the server sends."""
    answer = ChatAnswer("", None, Usage(), timings)
    assert "0.0 tokens/s" in describe_speed(answer, first=0.0, total=0.0)
    assert "counts no tokens" in describe_speed(ChatAnswer("", None), first=0.1, total=0.2)


def test_speed_of_what_was_stopped() -> None:
    """The server counts at the end, which never came."""
    speed = describe_speed(ChatAnswer("a b", None), first=0.5, total=1.5, num_chunks=20)
    assert speed.startswith("about 20 answer tokens, ")
    assert speed.endswith(", 0.50 s to the first, 20.0 tokens/s")
    assert "0.0 tokens/s" in describe_speed(ChatAnswer("a", None), 1.0, 1.0, num_chunks=1)

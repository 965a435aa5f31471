"""Markdown in pieces: nothing is lost, and what is printed for good does not change any more."""

import doctest
from io import StringIO
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.draws import draws
from thirdeye.clients.terminal import markdown
from thirdeye.clients.terminal.markdown import MarkdownView, Tail, split_blocks

LINES = ["word", "", "```", "~~~~", "```python", "- item", "    code", "# Title", "| a | b |"]
texts = st.lists(st.sampled_from(LINES)).map("\n".join)


@given(texts)
def test_nothing_is_lost(text: str) -> None:
    done, rest = split_blocks(text)
    assert done + rest == text


@given(text=texts, places=st.lists(st.integers(0, 100)))
def test_pieces_give_the_same_blocks_as_the_whole(text: str, places: list[int]) -> None:
    """However the answer is cut: the done parts together are those of the whole."""
    at = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    all_done, rest = "", ""
    for a, b in pairwise(at):
        done, rest = split_blocks(rest + text[a:b])
        all_done += done
    assert (all_done, rest) == split_blocks(text)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a\n\nb", "b"),
        ("a\n", "a\n"),
        ("```\na\n\nb\n", "```\na\n\nb\n"),
        ("```\na\n\nb\n```\n\nc", "c"),
        ("````\n```\n\n", "````\n```\n\n"),
        ("~~~\n```\n\n~~~\n\nx", "x"),
        ("```\n```python\n\n", "```\n```python\n\n"),
    ],
)
def test_a_blank_line_ends_a_block_but_not_code(text: str, rest: str) -> None:
    assert split_blocks(text)[1] == rest


@draws(10, 30)
@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_answer_is_drawn(pieces: list[str]) -> None:
    """Whatever a model writes, the view neither raises nor leaves the terminal hidden."""
    out = StringIO()
    view = MarkdownView(Console(file=out, force_terminal=True, width=40, height=10))
    for piece in pieces:
        view.write(piece)
    view.close()
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h")


def test_a_block_higher_than_the_screen_shows_its_end() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=40, height=6)
    lines = [f"- item {i}" for i in range(50)]
    with console.capture() as drawn:
        console.print(Tail("\n".join(lines)))
    assert "item 49" in drawn.get()
    assert "item 45" not in drawn.get()


def test_a_link_shows_where_it_goes() -> None:
    out = StringIO()
    view = MarkdownView(Console(file=out, force_terminal=True, width=80))
    view.write("[bank](http://evil.example)")
    view.close()
    assert "http://evil.example" in out.getvalue()
    assert "\x1b]8" not in out.getvalue()


def test_the_examples_run() -> None:
    result = doctest.testmod(markdown)
    assert (result.attempted > 0, result.failed) == (True, 0)

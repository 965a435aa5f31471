"""Whether an answer can begin under a grammar: compiled over single bytes, and its first mask made.

llguidance bounds the states it makes, and not the work for each of them: a complement in an
intersection of a few dozen bytes may take for ever. So whoever asks for strangers says by
`trying_with` who is to try: see `trial_processes.py`. By default it is this thread.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from llguidance import LLMatcher, LLTokenizer

from thirdeye.server.engine.interface.grammar_limits import limits_of

Try = Callable[[str], bool]


def can_begin_here(grammar: str) -> bool:
    """Some faults show only as the first token is looked for."""
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=limits_of(grammar))
    if not matcher.is_error():
        matcher.compute_bitmask()
    return not matcher.is_error()


_TRY: ContextVar[Try] = ContextVar("try a grammar", default=can_begin_here)


@contextmanager
def trying_with(how: Try) -> Iterator[None]:
    """In this context grammars are tried by `how`, which may raise."""
    token = _TRY.set(how)
    try:
        yield
    finally:
        _TRY.reset(token)


def can_begin(grammar: str) -> bool:
    return _TRY.get()(grammar)

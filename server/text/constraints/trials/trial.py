"""Who tries grammars: whether an answer can begin under one, and what a caller's rules or schema
come to.

llguidance bounds the states it makes, and not the work for each of them: a complement in an
intersection of a few dozen bytes may take for ever. So whoever asks for strangers says by
`trying_with` who is to try: see `trial_processes.py`. By default it is this thread.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from thirdeye.server.text.constraints.lark_rules import rules_here
from thirdeye.server.text.constraints.trials.compiled import can_begin_here
from thirdeye.server.text.constraints.trials.schema_grammar import SchemaForm, schema_grammar_here


class Trier(Protocol):
    def can_begin(self, grammar: str) -> bool:
        """Whether an answer can begin under a serialized grammar."""

    def rules_of(self, text: str) -> tuple[str, str]:
        """As `rules_here`."""

    def schema_grammar(self, text: str, form: SchemaForm) -> tuple[str, list[str]]:
        """As `schema_grammar_here`, of a schema's text."""


class TriedHere:
    def can_begin(self, grammar: str) -> bool:
        return can_begin_here(grammar)

    def rules_of(self, text: str) -> tuple[str, str]:
        return rules_here(text)

    def schema_grammar(self, text: str, form: SchemaForm) -> tuple[str, list[str]]:
        return schema_grammar_here(json.loads(text), form)


_TRIER: ContextVar[Trier | None] = ContextVar("who tries grammars", default=None)
_HERE = TriedHere()


@contextmanager
def trying_with(trier: Trier) -> Iterator[None]:
    """In this context grammars are tried by it, which may raise."""
    token = _TRIER.set(trier)
    try:
        yield
    finally:
        _TRIER.reset(token)


def can_begin(grammar: str) -> bool:
    return (_TRIER.get() or _HERE).can_begin(grammar)


def rules_of(text: str) -> tuple[str, str]:
    return (_TRIER.get() or _HERE).rules_of(text)


def schema_grammar(text: str, form: SchemaForm) -> tuple[str, list[str]]:
    return (_TRIER.get() or _HERE).schema_grammar(text, form)

"""What a caller may ask an answer to look like, as a grammar that the engine can follow.

    json_schema(schema)   json_object()   regex(pattern)   choice(options)   lark(text)
    without(words)        of_tokens(ids)

Each gives llguidance's serialized form, and has compiled it once over a vocabulary of single bytes:
what is handed to the engine works. Sizes are bounded here; work is not, so whoever compiles for
strangers has it tried in a process that can be ended (`trials/trial.py`), off the event loop.
"""

import json
from collections.abc import Sequence

from llguidance import LLMatcher

from thirdeye.server.engine.interface.grammar_limits import marked_as_foreign
from thirdeye.server.engine.interface.token_sets import token_set, token_set_of
from thirdeye.server.text.constraints.lark_rules import NOT_COMPILED
from thirdeye.server.text.constraints.reasons.regex_rules import unfollowable_regex
from thirdeye.server.text.constraints.repetition import regex_length, repeated_too_long
from thirdeye.server.text.constraints.trials.refusal import ConstraintError, check_size
from thirdeye.server.text.constraints.trials.schema_grammar import MAX_SCHEMA_BYTES, SchemaForm
from thirdeye.server.text.constraints.trials.trial import can_begin, rules_of, schema_grammar

MAX_REGEX_BYTES = 4 * 1024
MAX_GRAMMAR_BYTES = 64 * 1024
MAX_SERIALIZED_BYTES = 8 * MAX_SCHEMA_BYTES  # what escapes may make of any of them


def json_schema(schema: object, *, is_closed: bool = False) -> str:
    """JSON that validates against `schema`: an object, or true and false as JSON Schema has them.

    `is_closed`: objects have the properties that they list and no others, unless the schema says
    so. Raises `ConstraintError` with the path of what is wrong with it.
    """
    return _of_schema(schema, SchemaForm.CLOSED if is_closed else SchemaForm.PLAIN)[0]


def lenient_json_schema(schema: object) -> tuple[str, list[str]]:
    """The grammar of what can be followed of a schema, and the paths of what is left out.

    Raises `ConstraintError` for one that is too large.
    """
    return _of_schema(schema, SchemaForm.LENIENT)


def json_object() -> str:
    """Any JSON object."""
    return json_schema({"type": "object"})


def regex(pattern: str) -> str:
    """Text that the whole of `pattern` matches; the syntax of Rust's regex, without anchors."""
    check_size(pattern, MAX_REGEX_BYTES)
    if rule := unfollowable_regex(pattern):
        raise ConstraintError(rule)
    _check_repetition(regex_length(pattern))
    return _checked(LLMatcher.grammar_from_regex(pattern))


def choice(options: Sequence[str]) -> str:
    """One of `options`, exactly."""
    if not options or not all(options):
        raise ConstraintError("must hold at least one string, and no empty one.")
    text = "start: " + " | ".join(map(json.dumps, options))
    check_size(text, MAX_GRAMMAR_BYTES)
    return _checked(json.dumps({"grammars": [{"lark_grammar": text}]}))


def lark(text: str) -> str:
    """Text of a context-free grammar, in llguidance's variant of Lark from its rule `start`, or in
    GBNF from its rule `root`."""
    return json.dumps({"grammars": [{"lark_grammar": checked_lark(text)}]})


def checked_lark(text: str) -> str:
    """The grammar in Lark's notation. Raises `ConstraintError`."""
    check_size(text, MAX_GRAMMAR_BYTES)
    rules, why = rules_of(text)
    if why:
        raise ConstraintError(why)
    return rules


def works(rules: str) -> bool:
    """Whether an answer can begin that follows rules in Lark's notation."""
    return can_begin(json.dumps({"grammars": [{"lark_grammar": rules}]}))


def without(words: Sequence[str]) -> str:
    """Any text that holds none of `words`."""
    found = "|".join(map(_literal, words))
    check_size(found, MAX_REGEX_BYTES)
    text = f"start: TEXT\nTEXT: /(?s:.*)/ & ~/(?s:.*({found}).*)/"
    return _checked(json.dumps({"grammars": [{"lark_grammar": text}]}))


def _literal(word: str) -> str:
    """A regular expression of one text, as it can stand between slashes."""
    return "".join(c if c.isalnum() and c.isascii() else f"\\u{{{ord(c):x}}}" for c in word)


def of_tokens(token_ids: Sequence[int]) -> str:
    """An answer of these tokens, which ends where one of them ends it. Whether a vocabulary has
    them is not looked at."""
    return token_set(token_ids)


def serialized(grammar: str) -> str:
    """What was put together of what these functions made."""
    check_size(grammar, MAX_SERIALIZED_BYTES)
    return grammar if token_set_of(grammar) is not None else _checked(grammar)


def foreign(grammar: str) -> str:
    """What one of these functions made, as it says that brings it back from outside."""
    check_size(grammar, MAX_SERIALIZED_BYTES)
    if token_set_of(grammar) is not None:
        return grammar
    try:
        found = marked_as_foreign(grammar)
    except ValueError:
        raise ConstraintError(NOT_COMPILED) from None
    return _checked(found)


def behind(rule: str, grammar: str) -> str:
    """The serialized `grammar` behind a short text that `rule` describes, and white space."""
    first, *others = json.loads(grammar)["grammars"]
    start = f"start: {rule} SPACE? @answer\nSPACE: /[ \\n]{{1,4}}/"
    return json.dumps({"grammars": [{"lark_grammar": start}, {**first, "name": "answer"}, *others]})


def _of_schema(schema: object, form: SchemaForm) -> tuple[str, list[str]]:
    text = json.dumps(schema, ensure_ascii=False)
    check_size(text, MAX_SCHEMA_BYTES)
    return schema_grammar(text, form)


def _check_repetition(length: int) -> None:
    if rule := repeated_too_long(length):
        raise ConstraintError(rule)


def _checked(grammar: str) -> str:
    if not can_begin(grammar):
        raise ConstraintError(NOT_COMPILED)
    return grammar

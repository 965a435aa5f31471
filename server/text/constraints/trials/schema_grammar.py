"""A JSON schema as a grammar, made in this thread.

It is Python over all of a schema, several times: a tenth of a second for 64 KB of properties, and
minutes for what somebody has written to take them, where each branch is compared with each. So
whoever makes grammars for strangers has it done in a process (`trial.py`).
"""

import json
from enum import Enum

from llguidance import LLMatcher

from thirdeye.server.text.constraints.endless import endless_path
from thirdeye.server.text.constraints.followable import followable, leave_out
from thirdeye.server.text.constraints.json_schema import SchemaError, check_schema, subschemas
from thirdeye.server.text.constraints.reasons.blame import UNFOLLOWABLE, to_blame
from thirdeye.server.text.constraints.trials.compiled import can_begin_here
from thirdeye.server.text.constraints.trials.refusal import ConstraintError, check_size

MAX_SCHEMA_BYTES = 64 * 1024
MAX_REPAIRS = 16  # of schemas in a tool whose arguments are not strict
MAX_LOCATING_BYTES = 128 * 1024  # of subschemas compiled alone, to find the one that fails

# Between the parts of a JSON text: nothing, a blank, or a new line and its indentation. A weak
# model that likes blanks must go on after them.
WHITESPACE = r"( |\n {0,32})?"

ENDLESS = "cannot be followed: a value of it never ends, as it needs another of its own."


class SchemaForm(Enum):
    """How a schema is read."""

    PLAIN = "p"
    CLOSED = "c"  # objects have the properties that they list and no others, if it does not say
    LENIENT = "l"  # what cannot be followed is left out


def schema_grammar_here(schema: object, form: SchemaForm) -> tuple[str, list[str]]:
    """The grammar, and the paths of what is left out of it. Raises `ConstraintError`."""
    if form is SchemaForm.LENIENT:
        return _lenient(schema)
    return _strict(schema, is_closed=form is SchemaForm.CLOSED), []


def _strict(schema: object, *, is_closed: bool = False) -> str:
    check_size(json.dumps(schema, ensure_ascii=False), MAX_SCHEMA_BYTES)
    plain = followable(schema, is_closed=is_closed, caps_numbers=False).schema
    try:
        check_schema(plain)
    except SchemaError as error:
        raise ConstraintError(error.rule, error.path) from None
    if schema is False:
        raise ConstraintError(UNFOLLOWABLE, "$")
    if path := endless_path(plain):
        raise ConstraintError(ENDLESS, path)
    capped = _serialize(followable(schema, is_closed=is_closed).schema)
    for grammar in dict.fromkeys((capped, _serialize(plain))):
        if can_begin_here(grammar):
            return grammar
    path, rule = _locate(plain)
    raise ConstraintError(rule, path)


def _lenient(schema: object) -> tuple[str, list[str]]:
    check_size(json.dumps(schema, ensure_ascii=False), MAX_SCHEMA_BYTES)
    found = followable(schema, is_lenient=True, caps_numbers=False)
    for _ in range(MAX_REPAIRS):
        try:
            return _strict(found.schema), found.left_out
        except ConstraintError as error:
            if not error.path or not leave_out(found, error.path):
                break
    return _strict({"type": "object"}), ["$"]


def _serialize(schema: object) -> str:
    plain = {} if isinstance(schema, bool) else schema
    return LLMatcher.grammar_from_json_schema(
        json.dumps(plain), overrides={"whitespace_pattern": WHITESPACE}
    )


def _locate(schema: object) -> tuple[str, str]:
    """Where the innermost schema is that fails alone, and what is wrong with it; of the whole if it
    takes several to fail."""
    found, room = "$", MAX_LOCATING_BYTES
    failed: object = schema
    definitions: dict[str, object] = {}
    if isinstance(schema, dict):
        definitions = {k: v for k, v in schema.items() if k in ("$defs", "definitions")}
    for path, node in subschemas(schema):
        if isinstance(node, dict) and path.startswith(found):
            grammar = _serialize(definitions | node)
            room -= len(grammar)
            if room < 0:
                break
            if not can_begin_here(grammar):
                found, failed = path, node
    if not isinstance(failed, dict):
        return found, UNFOLLOWABLE
    return to_blame(failed, found, lambda node: can_begin_here(_serialize(definitions | node)))

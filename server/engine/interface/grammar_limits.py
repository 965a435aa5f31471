"""How much a parser may do for one token of an answer: of a caller's own rules little.

What a caller writes in Lark may be ambiguous without end: `s: s s | /[a-z]/` makes llguidance work
for a second on one mask, and every answer waits for a step. Its own limits are for what JSON Schema
makes, where objects of many optional properties need many cheap items. So rules that come from a
caller are marked, wherever they are put into a larger grammar. Marking makes a grammar's limits
only narrower: nothing is gained by writing the mark oneself.

What comes back whole from outside, as receipts do, is marked as well: its limits stay, since it may
be of any kind. Both are followed where that can be ended (`grammar/processes`).
"""

import json

from llguidance import LLParserLimits

CALLERS_RULES = "// of a caller"  # a comment in Lark
FOREIGN = {"origin": "foreign"}  # a field that llguidance knows nothing of
_FOREIGN_TEXT = json.dumps(FOREIGN)[1:-1]
MAX_CALLERS_ITEMS = 2000  # of an Earley parser, for one mask; llguidance's own: 50,000
MAX_LEXER_STATES = 50_000  # of one answer, at 1 to 2 kB: a string of so many bounded characters


def marked(rules: str) -> str:
    """A caller's rules in Lark, to be followed within narrow limits."""
    return f"{rules}\n{CALLERS_RULES}\n"


def marked_as_foreign(grammar: str) -> str:
    """A serialized grammar that came from outside. Raises ValueError for what is none."""
    try:
        fields = json.loads(grammar)
    except RecursionError:
        fields = None
    if not isinstance(fields, dict):
        raise ValueError("a grammar is an object with few levels")
    return json.dumps(fields | FOREIGN)


def is_of_a_caller(grammar: str) -> bool:
    """Whether the rules of a serialized grammar, or some of them, are a caller's own."""
    return CALLERS_RULES in grammar or _FOREIGN_TEXT in grammar


def limits_of(grammar: str) -> LLParserLimits:
    """For a serialized grammar."""
    if CALLERS_RULES in grammar:
        return LLParserLimits(
            max_lexer_states=MAX_LEXER_STATES,
            step_max_items=MAX_CALLERS_ITEMS,
            verbose_errors=False,
        )
    return LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)

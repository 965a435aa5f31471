"""How much a parser may do for one token of an answer: of a caller's own rules little.

What a caller writes in Lark may be ambiguous without end: `s: s s | /[a-z]/` makes llguidance work
for a second on one mask, and every answer waits for a step. Its own limits are for what JSON Schema
makes, where objects of many optional properties need many cheap items. So rules that come from a
caller are marked, wherever they are put into a larger grammar. Marking makes a grammar's limits
only narrower: nothing is gained by writing the mark oneself.
"""

from llguidance import LLParserLimits

CALLERS_RULES = "// of a caller"  # a comment in Lark
MAX_CALLERS_ITEMS = 2000  # of an Earley parser, for one mask; llguidance's own: 50,000
MAX_LEXER_STATES = 50_000  # of one answer, at 1 to 2 kB: a string of so many bounded characters


def marked(rules: str) -> str:
    """A caller's rules in Lark, to be followed within narrow limits."""
    return f"{rules}\n{CALLERS_RULES}\n"


def limits_of(grammar: str) -> LLParserLimits:
    """For a serialized grammar."""
    if CALLERS_RULES in grammar:
        return LLParserLimits(
            max_lexer_states=MAX_LEXER_STATES,
            step_max_items=MAX_CALLERS_ITEMS,
            verbose_errors=False,
        )
    return LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)

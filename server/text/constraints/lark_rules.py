"""A caller's rules, in Lark's notation or in GBNF, as rules of Lark that can be followed.

Reading 64 KB of them is some 25 ms of Python, which would hold the interpreter of everybody's
streams: whoever compiles for strangers has it done in a process (`trials/trial.py`).
"""

import json

from llguidance.gbnf_to_lark import gbnf_to_lark

from thirdeye.server.engine.interface.grammar_limits import marked
from thirdeye.server.text.constraints.repetition import lark_length, repeated_too_long
from thirdeye.server.text.constraints.trials.compiled import can_begin_here

NOT_COMPILED = "cannot be compiled."


def rules_here(text: str) -> tuple[str, str]:
    """The rules, and nothing; or nothing, and the rule that the text breaks, as the end of a
    sentence that begins with its field."""
    if "::=" in text:
        try:
            text = gbnf_to_lark(text)
        except Exception:  # its own error, and plain ones for what it did not think of
            return "", "is no grammar in GBNF."
    if rule := repeated_too_long(lark_length(text)):
        return "", rule
    rules = marked(text)
    if not can_begin_here(json.dumps({"grammars": [{"lark_grammar": rules}]})):
        return "", NOT_COMPILED
    return rules, ""

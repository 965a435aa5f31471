"""Whether an answer can begin under a grammar: compiled over bytes, and its first mask made."""

from llguidance import LLMatcher, LLTokenizer

from thirdeye.server.engine.interface.grammar_limits import limits_of


def can_begin_here(grammar: str) -> bool:
    """Some faults show only as the first token is looked for."""
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=limits_of(grammar))
    if not matcher.is_error():
        matcher.compute_bitmask()
    return not matcher.is_error()

"""Constrained answers of the whole engine over the toy model, whose tokens say something."""

from server.engine.types import FinishReason, Request
from server.text import grammar
from tests.engine.grammars import grammar_core, text_of
from tests.engine.toy import EOS, make_request, run_all, tokens_of


def constrained(grammar_text: str, request_id: str = "r", **sampling: object) -> Request:
    request = make_request(request_id, **({"max_tokens": 60} | sampling))
    return Request(
        **{f: getattr(request, f) for f in request.__struct_fields__} | {"grammar": grammar_text}
    )


def answer(grammar_text: str, **sampling: object) -> tuple[str, FinishReason | None]:
    outputs = run_all(grammar_core(), [constrained(grammar_text, **sampling)])["r"]
    return text_of(tokens_of(outputs)), outputs[-1].finish_reason


def test_an_answer_is_what_the_grammar_allows_and_ends_when_it_must() -> None:
    """No end-of-sequence has to be sampled: behind the last token nothing could follow."""
    outputs = run_all(grammar_core(), [constrained(grammar.choice(["ab", "ba"]))])["r"]
    assert text_of(tokens_of(outputs)) in ("ab", "ba")
    assert EOS not in tokens_of(outputs)
    assert outputs[-1].finish_reason is FinishReason.STOP

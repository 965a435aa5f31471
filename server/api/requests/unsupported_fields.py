"""Fields this server knows and does not act on, and names people bring from elsewhere.

Nothing is ignored: a known field passes only with a value that asks for nothing (`null` always
does), every other value is refused with what to use instead. Unknown names get a suggestion.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from thirdeye.server.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a field is refused, and the values of it that ask for nothing."""

    hint: str
    neutral: tuple[object, ...] = ()
    code: str = "unsupported_parameter"


_VALUE = "unsupported_value"
_FIXED_TEMPLATE = Refusal("the chat template is fixed when the server starts")

REFUSED: dict[str, Refusal] = {
    "allowed_token_ids": Refusal("use 'logit_bias'"),
    "bad_words": Refusal("use 'logit_bias'"),
    "length_penalty": Refusal("there is no beam search", (1.0, 1)),
    "logprob_token_ids": Refusal("use 'logprobs'"),
    "prompt_embeds": Refusal("send text or token ids"),
    "return_token_offsets": Refusal("use 'return_token_ids'", (False,)),
    "spaces_between_special_tokens": Refusal("only true is", (True,), _VALUE),
    "store": Refusal("this server stores nothing, send false", (False,), _VALUE),
    "stream_interval": Refusal("every token is sent at once", (1,), _VALUE),
    "use_beam_search": Refusal("there is no beam search", (False,)),
}

REFUSED_IN_COMPLETIONS: dict[str, Refusal] = REFUSED | {
    "suffix": Refusal("there is no fill-in-the-middle"),
}

REFUSED_IN_EMBEDDINGS: dict[str, Refusal] = {
    "dimensions": Refusal("a causal model's hidden states cannot be shortened"),
}

REFUSED_IN_CHAT: dict[str, Refusal] = REFUSED | {
    "audio": Refusal("answers are text only"),
    "chat_template": _FIXED_TEMPLATE,
    "documents": Refusal("send it in 'chat_template_kwargs', if the template reads it"),
    "function_call": Refusal("use 'tools' and 'tool_choice'"),
    "functions": Refusal("use 'tools' and 'tool_choice'"),
    "modalities": Refusal("only ['text'] is", (["text"],), _VALUE),
    "moderation": Refusal("this server moderates nothing"),
    "prediction": Refusal("leave it out"),
    "verbosity": Refusal("only 'medium' is", ("medium",)),
    "web_search_options": Refusal("this server fetches nothing"),
}

# What other servers call it -> what to use here.
ELSEWHERE: dict[str, str] = {
    "guided_choice": "'structured_outputs'",
    "guided_grammar": "'structured_outputs'",
    "guided_json": "'response_format'",
    "guided_regex": "'structured_outputs'",
    "max_new_tokens": "'max_tokens'",
    "min_new_tokens": "'min_tokens'",
    "n_predict": "'max_tokens'",
    "num_predict": "'max_tokens'",
    "repeat_penalty": "'repetition_penalty'",
    "request_id": "the header 'X-Request-Id'",
    "rid": "the header 'X-Request-Id'",
    "session_id": "the header 'X-Request-Id'",
}


def drop_refused(body: Mapping[str, object], refused: Mapping[str, Refusal]) -> dict[str, object]:
    """The body without the table's fields. Raises `InvalidRequest` for one that asks for more."""
    for name, value in body.items():
        refusal = refused.get(name)
        if refusal is None or value is None:
            continue
        if not any(_same(value, neutral) for neutral in refusal.neutral):
            raise InvalidRequest(
                f"'{name}' is not supported here: {refusal.hint}.", param=name, code=refusal.code
            )
    return {name: value for name, value in body.items() if name not in refused}


def _same(value: object, neutral: object) -> bool:
    return type(value) is type(neutral) and value == neutral


def suggestion(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'top_p'?`, or nothing when no known name is within two edits."""
    if name in ELSEWHERE:
        return f", did you mean {ELSEWHERE[name]}?"
    if len(name) > 40:
        return "."
    distance, closest = min((edit_distance(name, other), other) for other in known)
    return f", did you mean '{closest}'?" if distance <= 2 else "."


def edit_distance(a: str, b: str) -> int:
    """Levenshtein: the fewest insertions, deletions and substitutions that turn a into b."""
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        previous, row = row, [i]
        for j, other in enumerate(b, 1):
            substituted = previous[j - 1] + (char != other)
            row.append(min(previous[j] + 1, row[-1] + 1, substituted))
    return row[-1]

"""Other servers' names for fields of ours, obeyed as these: their value is moved over."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from thirdeye.server.api.field_rules.nothing import is_empty
from thirdeye.server.api.field_rules.same_value import same_value
from thirdeye.server.errors import InvalidRequest

OTHER_NAMES: dict[str, str] = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "n_cmpl": "n",
    "n_predict": "max_tokens",
    "no_stop_trim": "include_stop_str_in_output",
    "num_predict": "max_tokens",
    "penalize_nl": "penalize_newline",
    "random_seed": "seed",
    "repeat_penalty": "repetition_penalty",
}
OTHER_NAMES_IN_CHAT: dict[str, str] = OTHER_NAMES | {
    "reasoning_budget_tokens": "thinking_token_budget",
    "thinking_budget": "thinking_token_budget",
    "thinking_budget_tokens": "thinking_token_budget",
}
OTHER_NAMES_IN_COMPLETIONS: dict[str, str] = OTHER_NAMES | {
    "max_completion_tokens": "max_tokens",
}

Sent = Mapping[str, str]  # field -> the other name under which it came


def with_our_names(
    body: Mapping[str, object], names: Mapping[str, str]
) -> tuple[dict[str, object], Sent]:
    """The body with our names, and which of them came under another.

    Raises `InvalidRequest` where one field comes under two names with two values.
    """
    ours = {name: value for name, value in body.items() if name not in names}
    sent: dict[str, str] = {}
    for name, value in body.items():
        if name not in names or is_empty(value):
            continue
        field = names[name]
        if ours.get(field) is not None and not same_value(ours[field], value):
            other = sent.get(field, field)
            raise InvalidRequest(
                f"'{name}' must equal '{other}' when both are given.",
                param=name,
                code="invalid_value",
            )
        ours[field] = value
        sent.setdefault(field, name)
    return ours, sent


@contextmanager
def as_sent(sent: Sent) -> Iterator[None]:
    """An `InvalidRequest` about one of these fields calls it what the caller called it."""
    try:
        yield
    except InvalidRequest as error:
        name = sent.get(error.param or "")
        if name is None:
            raise
        message = error.message.replace(f"'{error.param}'", f"'{name}'")
        raise error.renamed(message, name) from None

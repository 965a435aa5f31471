"""A set of tokens as a serialized grammar: an answer is made of these and no others."""

import json
from collections.abc import Sequence

_KEY = "token_ids"


def token_set(token_ids: Sequence[int]) -> str:
    return json.dumps({_KEY: list(token_ids)})


def token_set_of(grammar: str) -> list[int] | None:
    """The ids, if a serialized grammar is nothing but them."""
    if not grammar.startswith(f'{{"{_KEY}"'):
        return None
    try:
        ids = json.loads(grammar)[_KEY]
    except (ValueError, RecursionError):
        return None
    is_set = isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids)
    return ids if is_set else None

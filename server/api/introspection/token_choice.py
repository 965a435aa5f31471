"""A token, named by its id or by its text."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.requests.strict_model import TokenId
from thirdeye.server.api.state.server_state import ServedModel

MAX_CHARS = 256

TokenChoice = Annotated[str, Field(min_length=1, max_length=MAX_CHARS)] | TokenId


def token_ids_of(chosen: Sequence[str | int], model: ServedModel, param: str) -> list[int]:
    """Raises `InvalidRequest` for a text that is no token, and an id that is none."""
    return [_token_id(one, model, f"{param}[{i}]") for i, one in enumerate(chosen)]


def _token_id(chosen: str | int, model: ServedModel, param: str) -> int:
    if isinstance(chosen, int):
        model.check_token_id(chosen, param)
        return chosen
    try:
        ids = model.tokenizer.encode(chosen, follows_special=True)
    except ValueError as error:
        raise refuse(param, f"cannot be tokenized: {error}") from None
    if len(ids) != 1:
        raise refuse(param, f"must be the text of one token, got {len(ids)} tokens: give an id.")
    return ids[0]

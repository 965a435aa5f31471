"""What a receipt is: all that decided an answer's tokens, the tokens, and hashes over both.

A receipt is made beside an answer (`receipt: true`) and may come back to `POST /v1/verify`; nothing
of it is kept here in between. One strict model reads and writes it, so what is hashed is always the
same bytes: JSON with sorted keys and without spaces, as Python's `json` writes it. It holds no
secret: no key, no salt, no text. The hashes find accidents; that the tokens are what this server
says to the prompt, only the replay shows.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.requests.decimals import decimal_up_to
from thirdeye.server.api.requests.fields import MAX_PROMPTS, LogitBias, Stop
from thirdeye.server.api.requests.generation_fields import Penalty
from thirdeye.server.api.requests.strict_model import MAX_INT, Strict, TokenId
from thirdeye.server.api.requests.value_readers import fail
from thirdeye.server.settings.bounds import MAX_N
from thirdeye.server.text.constraints.constraint import MAX_SERIALIZED_BYTES

SEED = decimal_up_to(2**63 - 1)


def parse_digest(value: object) -> str:
    is_digest = (
        isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
    )
    if not is_digest:
        fail("invalid_value", "must be a string of 64 hexadecimal digits.")
    return str(value)


def parse_seed(value: object) -> int:
    """A decimal string: a number of 63 bits would lose its end in JavaScript."""
    text = value if isinstance(value, str) else ""
    if not re.fullmatch(SEED, text):
        fail("invalid_value", "must be a string of decimal digits, a number below 2^63.")
    return int(text)


Digest = Annotated[
    str,
    PlainValidator(parse_digest),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
]
Seed = Annotated[
    int,
    PlainValidator(parse_seed),
    WithJsonSchema({"type": "string", "pattern": f"^({SEED})$"}),
]
Name = Annotated[str, Field(max_length=256)]


class ReceiptParameters(Strict):
    """What chose the tokens and ended the answer, with every default filled in."""

    max_tokens: int = Field(ge=0, le=MAX_INT)
    min_tokens: int = Field(ge=0, le=MAX_INT)
    temperature: float = Field(ge=0, le=2)
    top_p: float = Field(ge=0, le=1)
    top_k: int = Field(ge=0, le=MAX_INT)
    min_p: float = Field(ge=0, le=1)
    frequency_penalty: Penalty
    presence_penalty: Penalty
    repetition_penalty: float = Field(ge=0.01, le=100)
    penalty_window: int = Field(-1, ge=-1, le=MAX_INT)  # older receipts have none
    logit_bias: LogitBias
    stop_token_ids: list[TokenId] = Field(max_length=64)
    ignore_eos: bool
    stop: Stop
    skip_special_tokens: bool
    parse_tool_calls: bool
    grammar: str = Field(max_length=MAX_SERIALIZED_BYTES)


class ReceiptPrompt(Strict):
    token_ids: Annotated[list[TokenId], Field(fail_fast=True)] = Field(min_length=1)
    sha256: Digest


class ReceiptChoice(Strict):
    """One answer. `token_ids` are all that were sampled, up to what ended it."""

    index: int = Field(ge=0, le=MAX_PROMPTS * MAX_N)
    seed: Seed
    token_ids: Annotated[list[TokenId], Field(fail_fast=True)]
    sha256: Digest
    finish_reason: Literal["stop", "length"]


class Receipt(Strict):
    """Choice index = prompt x samples of each + sample, as in the answer."""

    object: Literal["receipt"]
    model: Name
    system_fingerprint: Name
    version: Name
    build: Name
    weights: Name
    adapter: Name = ""  # SHA-256 over its files; left out where the model itself answered
    tokenizer: Name
    numerics: Name
    parameters: ReceiptParameters
    prompts: list[ReceiptPrompt] = Field(min_length=1, max_length=MAX_PROMPTS)
    choices: list[ReceiptChoice] = Field(min_length=1, max_length=MAX_PROMPTS * MAX_N)
    sha256: Digest

    def plain(self) -> JsonObject:
        """As it travels, where keys and seeds are strings."""
        found: dict[str, Any] = self.model_dump(exclude_unset=True)
        bias = found["parameters"]["logit_bias"]
        found["parameters"]["logit_bias"] = {str(key): value for key, value in bias.items()}
        for choice in found["choices"]:
            choice["seed"] = str(choice["seed"])
        return found


class VerifyRequest(Strict):
    receipt: Receipt


def digest_of_ids(token_ids: Iterable[int]) -> str:
    """SHA-256 over the ids in decimal with commas between: `printf 1,2,3 | sha256sum`."""
    return hashlib.sha256(",".join(map(str, token_ids)).encode()).hexdigest()


def digest_of(receipt: JsonObject) -> str:
    """SHA-256 over the whole receipt but its own `sha256`."""
    rest = {key: value for key, value in receipt.items() if key != "sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def faults(receipt: Receipt) -> Iterator[tuple[str, str, str]]:
    """(field, what it says, what it should say) of each hash that does not fit."""
    for i, prompt in enumerate(receipt.prompts):
        if (digest := digest_of_ids(prompt.token_ids)) != prompt.sha256:
            yield f"receipt.prompts[{i}].sha256", prompt.sha256, digest
    for i, choice in enumerate(receipt.choices):
        if (digest := digest_of_ids(choice.token_ids)) != choice.sha256:
            yield f"receipt.choices[{i}].sha256", choice.sha256, digest
    if (digest := digest_of(receipt.plain())) != receipt.sha256:
        yield "receipt.sha256", receipt.sha256, digest

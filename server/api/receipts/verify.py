"""`POST /v1/verify`: a receipt is checked, replayed, and compared token by token.

    of this server? -> possible? -> do the hashes fit? -> replay -> equal, or the first difference

The replay is a request like any other: it takes its place in the queue, counts against the limits,
and stops when the client leaves. Each choice may become one token longer than the receipt's, no
more, so a replay costs about what the answer did, whatever `max_tokens` says. Nothing is looked up:
the receipt holds all that is needed.
"""

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec
from fastapi import APIRouter
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.adapters.loaded_adapters import with_adapter
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.plan import SharedTerms, plan
from thirdeye.server.api.generation.request_rules import TokenLimit, check_context, refuse
from thirdeye.server.api.generation.respond import admit, answer_whole
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.receipts.receipt import Receipt, ReceiptChoice, VerifyRequest, faults
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.api.requests.response_formats import Constraint, Kind
from thirdeye.server.api.state.answer_parts import AnswerTimings, TokenUsage
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.engine.interface.types import SamplingParams
from thirdeye.server.text.events import TextEvent
from thirdeye.server.text.text_stream import TextOptions


class Verification(Struct, kw_only=True):
    """Whether a replay says the same; if not, where they part: a field of the receipt, or the
    position of a token (null: that list has ended)."""

    object: Literal["verification"] = "verification"
    verdict: Literal["equal", "different", "not_comparable"]
    choice: Count | UnsetType = UNSET
    field: str | UnsetType = UNSET
    position: Count | UnsetType = UNSET
    expected: int | str | UnsetType | None = UNSET
    got: int | str | UnsetType | None = UNSET
    reason: str | UnsetType = UNSET
    usage: TokenUsage | UnsetType = UNSET
    timings: AnswerTimings | UnsetType | None = UNSET


def verify_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/verify", **documented("Receipts", VerifyRequest, answer=Verification))
    async def verify(request: Request) -> Response:
        _, model = context.state.serving()
        receipt = (await context.bodies.read(request, VerifyRequest)).receipt
        if field := foreign_field(receipt, model):
            reason = f"'{field}' is not this server's: only the same build, weights and numerics"
            reason += " promise the same tokens."
            return json_response(Verification(verdict="not_comparable", field=field, reason=reason))
        check_receipt(receipt, model, context.config)
        if fault := await asyncio.to_thread(lambda: next(faults(receipt), None)):
            field, expected, got = fault
            found = Verification(verdict="different", field=field, expected=expected, got=got)
            return json_response(found)
        constraint = constraint_of(receipt)
        caller = lifetime_of(request).caller
        grammar = await context.grammars.of("receipt.parameters.grammar", constraint, caller)
        adapter = model.adapters.get(receipt.model)
        terms = SharedTerms(caller=caller, adapter=adapter, grammar=grammar)
        generation = plan_replay(receipt, terms)
        tally = generation.tally()
        run = admit(request, context, generation, tally)
        return await answer_whole(request, run, Replay(receipt.choices, tally), tally)

    return router


def foreign_field(receipt: Receipt, model: ServedModel) -> str | None:
    """The first field that says the receipt is another server's; None if it is one of ours."""
    who, adapter = model.identity, model.adapters.get(receipt.model)
    if receipt.model not in model.names and adapter is None:
        return "receipt.model"
    ours = {
        "receipt.version": (receipt.version, who.version),
        "receipt.build": (receipt.build, who.build),
        "receipt.weights": (receipt.weights, who.weights),
        "receipt.adapter": (receipt.adapter, adapter.fingerprint if adapter else ""),
        "receipt.tokenizer": (receipt.tokenizer, who.tokenizer),
        "receipt.numerics": (receipt.numerics, who.numerics),
        "receipt.system_fingerprint": (
            receipt.system_fingerprint,
            with_adapter(model.fingerprint, adapter),
        ),
    }
    return next((field for field, (theirs, own) in ours.items() if theirs != own), None)


def check_receipt(receipt: Receipt, model: ServedModel, config: ApiConfig) -> None:
    """What no honest receipt of this server breaks. Raises `InvalidRequest`."""
    parameters, choices = receipt.parameters, receipt.choices
    n, rest = divmod(len(choices), len(receipt.prompts))
    if rest or n > config.max_n:
        raise refuse("receipt.choices", f"must hold as many of each prompt, 1 to {config.max_n}.")
    if len(choices) > config.max_choices:
        rule = f"must hold at most {config.max_choices} items, got {len(choices)}."
        raise refuse("receipt.choices", rule, "array_above_max_length")
    check_ceilings(config, parameters.stop, stop_param="receipt.parameters.stop")
    for i, choice in enumerate(choices):
        path = f"receipt.choices[{i}]"
        if choice.index != i:
            raise refuse(f"{path}.index", f"must be {i}, got {choice.index}.")
        if len(choice.token_ids) > parameters.max_tokens:
            rule = f"must hold at most 'max_tokens' ({parameters.max_tokens}) ids."
            raise refuse(f"{path}.token_ids", rule, "array_above_max_length")
        model.check_token_ids(choice.token_ids, f"{path}.token_ids")
    for i, prompt in enumerate(receipt.prompts):
        model.check_token_ids(prompt.token_ids, f"receipt.prompts[{i}].token_ids")
    model.check_token_ids(parameters.stop_token_ids, "receipt.parameters.stop_token_ids")
    for token_id in parameters.logit_bias:
        model.check_token_id(token_id, "receipt.parameters.logit_bias")
    check_lengths(receipt, model.max_model_len)


def check_lengths(receipt: Receipt, context: int) -> None:
    parameters = receipt.parameters
    if parameters.min_tokens > parameters.max_tokens:
        rule = f"must be at most 'max_tokens' ({parameters.max_tokens})."
        raise refuse("receipt.parameters.min_tokens", rule)
    longest = max(len(prompt.token_ids) for prompt in receipt.prompts)
    check_context(longest, context, "receipt.prompts", reserve=1 if parameters.max_tokens else 0)
    limit = TokenLimit("receipt.parameters.max_tokens", parameters.max_tokens, longest, context)
    if limit.is_above_room:
        raise limit.refusal()


def constraint_of(receipt: Receipt) -> Constraint | None:
    grammar = receipt.parameters.grammar
    return Constraint(Kind.SERIALIZED, grammar) if grammar else None


def plan_replay(receipt: Receipt, terms: SharedTerms) -> Generation:
    """The receipt's requests again, each with room for one token more than it had."""
    parameters = receipt.parameters
    prompts = [prompt.token_ids for prompt in receipt.prompts]
    first = SamplingParams(
        max_tokens=parameters.max_tokens,
        min_tokens=parameters.min_tokens,
        temperature=parameters.temperature,
        top_p=parameters.top_p,
        top_k=parameters.top_k,
        min_p=parameters.min_p,
        frequency_penalty=parameters.frequency_penalty,
        presence_penalty=parameters.presence_penalty,
        repetition_penalty=parameters.repetition_penalty,
        penalty_window=parameters.penalty_window,
        logit_bias=parameters.logit_bias,
        stop_token_ids=parameters.stop_token_ids,
        ignore_eos=parameters.ignore_eos,
        prompt_logprobs=None if parameters.max_tokens else 0,  # a request must ask for something
    )
    samplings = [
        msgspec.structs.replace(
            first,
            seed=choice.seed,
            max_tokens=min(parameters.max_tokens, len(choice.token_ids) + 1),
        )
        for choice in receipt.choices
    ]
    options = TextOptions(
        stop=list(parameters.stop),
        skip_special_tokens=parameters.skip_special_tokens,
        parse_tool_calls=parameters.parse_tool_calls,
        min_tokens=parameters.min_tokens,
    )
    return plan("verify-", receipt.model, prompts, samplings, terms, options=options)


class Replay:
    """What the engine says now, beside what the receipt says it said."""

    def __init__(self, choices: Sequence[ReceiptChoice], tally: Tally) -> None:
        self._choices = choices
        self._tally = tally
        self._token_ids: list[list[int]] = [[] for _ in choices]

    def add(self, index: int, event: TextEvent) -> None:
        self._token_ids[index] += [token.token_id for token in event.tokens]

    def whole(self) -> Verification:
        for choice, got in zip(self._choices, self._token_ids, strict=True):
            if found := self._difference(choice, got):
                break
        else:
            found = Verification(verdict="equal")
        found.usage, found.timings = self._tally.usage(), self._tally.timings()
        return found

    def _difference(self, choice: ReceiptChoice, got: Sequence[int]) -> Verification | None:
        found = Verification(verdict="different", choice=choice.index)
        if difference := first_difference(choice.token_ids, got):
            found.position, found.expected, found.got = difference
            return found
        reason = str(self._tally.finish_reasons[choice.index])
        if reason == choice.finish_reason:
            return None
        found.field = f"receipt.choices[{choice.index}].finish_reason"
        found.expected, found.got = choice.finish_reason, reason
        return found


def first_difference(
    expected: Sequence[int], got: Sequence[int]
) -> tuple[int, int | None, int | None] | None:
    """(position, expected id, got id); an id is None where its list has ended."""
    for position in range(max(len(expected), len(got))):
        left = expected[position] if position < len(expected) else None
        right = got[position] if position < len(got) else None
        if left != right:
            return position, left, right
    return None

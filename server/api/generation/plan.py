"""Checked fields as engine requests: the one plan behind every route that asks the engine.

`n` samples of each prompt are `prompts x n` engine requests; sample j of every prompt draws from a
seed derived from (seed, j). What must fit into the context is checked here, against the prompts'
token ids.
"""

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import msgspec

from thirdeye.server.api.adapters.loaded_adapters import LoadedAdapter
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.penalties import penalties_of
from thirdeye.server.api.generation.request_rules import TokenLimit, check_context, refuse, truncate
from thirdeye.server.api.generation.thinking import NO_THOUGHTS, ThoughtTerms
from thirdeye.server.api.requests.generation_fields import GenerationRequest
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.engine.interface.types import Request, SamplingParams, Thinking
from thirdeye.server.text.text_stream import TextOptions
from thirdeye.server.text.tools.definitions import Tool
from thirdeye.server.text.tools.families.call_form import CallForm

TWO_BOS = "the prompt begins with two BOS tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTerms:
    """What all engine requests of one generation have in common."""

    caller: str  # a short name of the API key: whose share of the engine it is
    cache_salt: str | None = None
    priority: int = 0
    adapter: LoadedAdapter | None = None
    grammar: str = ""
    thinking: Thinking | None = None
    return_progress: bool = False
    is_embedding: bool = False
    answer_token_ids: list[int] = field(default_factory=list)


def plan(
    id_prefix: str,
    model: str,
    prompts: Sequence[list[int]],
    samplings: Sequence[SamplingParams],
    terms: SharedTerms,
    *,
    options: TextOptions | None = None,
    num_truncated: int = 0,
    notes: Mapping[str, object] | None = None,
    **about: Any,
) -> Generation:
    """A generation of one engine request for each of `samplings`: as many of every prompt. `about`
    are other fields of it."""
    generation_id = f"{id_prefix}{uuid4().hex}"
    n = len(samplings) // len(prompts)
    requests = [
        Request(
            request_id=f"{generation_id}-{i}",
            prompt_token_ids=prompts[i // n],
            sampling=sampling,
            priority=terms.priority,
            cache_salt=salt(terms.caller, terms.cache_salt),
            adapter=terms.adapter.number if terms.adapter else 0,
            tenant=terms.caller,
            return_progress=terms.return_progress,
            is_embedding=terms.is_embedding,
            answer_token_ids=terms.answer_token_ids,
            grammar=terms.grammar,
            thinking=terms.thinking,
        )
        for i, sampling in enumerate(samplings)
    ]
    return Generation(
        id=generation_id,
        created=unix_seconds(),
        model=model,
        prompts=prompts,
        n=n,
        requests=requests,
        options=options or TextOptions(),
        truncated=num_truncated,
        notes=notes or {},
        adapter=terms.adapter,
        **about,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFields:
    """What chat and completions have under names of their own."""

    id_prefix: str
    prompt_param: str  # the field that holds the prompt
    max_tokens: int | None
    max_tokens_param: str
    is_default_limit: bool = False  # the caller said nothing of `max_tokens`
    logprobs: int | None  # None: none; k: of each token the k likeliest, too
    prompt_logprobs: int | None
    lists_tokens: bool  # whether anybody asked for more of a token than its text
    grammar: str
    parse_tool_calls: bool = False
    call_form: CallForm | None = None
    tools: Sequence[Tool] = ()
    thoughts: ThoughtTerms = NO_THOUGHTS
    ignored: Sequence[str] = ()  # fields that had no effect


def check_room(
    body: GenerationRequest,
    encoded: Sequence[list[int]],
    model: ServedModel,
    max_tokens: int | None,
    param: str,
) -> list[list[int]]:
    """The prompts, cut as asked. Raises `InvalidRequest` for one that leaves no room: before
    anything dear is done for a request that cannot be answered."""
    context = model.max_model_len
    prompts = [truncate(ids, body.truncate_prompt_tokens, max_tokens, context) for ids in encoded]
    reserve = 0 if max_tokens == 0 else 1 + len(body.answer_token_ids)
    check_context(max(map(len, prompts)), context, param, reserve=reserve)
    return prompts


def plan_answer(
    body: GenerationRequest,
    own: AnswerFields,
    encoded: Sequence[list[int]],
    model: ServedModel,
    caller: str,
) -> Generation:
    """The engine requests of an answer to prompts. Raises `InvalidRequest` if too large."""
    context = model.max_model_len
    prompts = check_room(body, encoded, model, own.max_tokens, own.prompt_param)
    longest = max(map(len, prompts))
    begun = body.answer_token_ids
    limit = TokenLimit(own.max_tokens_param, own.max_tokens, longest, context)
    if own.is_default_limit:
        limit = replace(limit, asked=own.max_tokens or model.defaults.max_tokens)
    max_tokens = limit.room if limit.asked is None else min(limit.asked, limit.room)
    if begun and len(begun) >= max_tokens:
        raise refuse(
            "answer_token_ids",
            f"must be fewer than '{own.max_tokens_param}' ({max_tokens}), got {len(begun)}.",
        )
    bos = model.tokenizer.bos_token_id
    begins_twice = bos is not None and any(prompt[:2] == [bos, bos] for prompt in prompts)
    terms = SharedTerms(
        caller=caller,
        cache_salt=body.cache_salt,
        priority=body.priority,
        adapter=model.adapter_of(body.model),
        grammar=own.grammar,
        thinking=own.thoughts.engine,
        return_progress=body.return_progress and body.stream,  # a whole answer has no progress
        answer_token_ids=begun,
    )
    return plan(
        own.id_prefix,
        model.resolve(body.model),
        prompts,
        [*samplings_of(body, own, model, max_tokens)] * len(prompts),
        terms,
        options=text_options(body, own),
        num_truncated=sum(map(len, encoded)) - sum(map(len, prompts)),
        notes=notes(body),
        ignored=own.ignored,
        limit=None if own.is_default_limit else limit,
        warnings=[TWO_BOS] if begins_twice else [],
    )


def samplings_of(
    body: GenerationRequest, own: AnswerFields, model: ServedModel, max_tokens: int
) -> Sequence[SamplingParams]:
    """One `SamplingParams` for each of the `n` samples; they differ in the seed alone."""
    if body.min_tokens > max_tokens and "min_tokens" in body.model_fields_set:
        raise refuse(
            "min_tokens",
            f"must be at most {max_tokens}, as many as there can be; got {body.min_tokens}.",
        )
    seed = fresh_seed() if body.seed is None else body.seed
    drawn = model.defaults.sampling(body, body.model_fields_set)
    if not 0 < drawn["top_k"] < model.tokenizer.vocab_size:
        drawn["top_k"] = 0
    first = SamplingParams(
        max_tokens=max_tokens,
        min_tokens=0 if own.thoughts.engine else min(body.min_tokens, max_tokens),
        logit_bias=body.logit_bias,
        stop_token_ids=list(body.stop_token_ids),
        ignore_eos=body.ignore_eos,
        logprobs=own.logprobs,
        prompt_logprobs=own.prompt_logprobs,
        **drawn | penalties_of(body, drawn["repetition_penalty"], model.max_model_len),
    )
    return [msgspec.structs.replace(first, seed=derive_seed(seed, j)) for j in range(body.n)]


def text_options(body: GenerationRequest, own: AnswerFields) -> TextOptions:
    return TextOptions(
        stop=list(body.stop),
        include_stop=body.include_stop_str_in_output,
        skip_special_tokens=body.skip_special_tokens,
        min_tokens=body.min_tokens,
        max_seconds=body.t_max_predict_ms / 1000,
        parse_tool_calls=own.parse_tool_calls,
        call_form=own.call_form,
        parameters={tool.name: tool.parameters for tool in own.tools},
        reasoning=own.thoughts.form,
        prompt_state=own.thoughts.state,
        call_id=own.thoughts.call_id,
        shows_thoughts=own.thoughts.is_shown,
        list_tokens=own.lists_tokens or body.receipt,
    )


def notes(body: GenerationRequest) -> dict[str, object]:
    """What the caller wants found in the log, and nothing else is done with."""
    names = ("user", "safety_identifier", "metadata")
    return {name: value for name in names if (value := getattr(body, name, None))}


def derive_seed(seed: int, sample: int) -> int:
    """The seed of one sample, 63 bits; sample 0 keeps a non-negative seed as it is."""
    if sample == 0:
        return seed % 2**63
    digest = hashlib.sha256(f"{seed}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fresh_seed() -> int:
    return secrets.randbits(63)


def salt(caller: str, cache_salt: str | None) -> str:
    """Prefixes are shared only within one API key and one `cache_salt`."""
    return f"{caller}/{cache_salt or ''}" if caller or cache_salt else ""


def unix_seconds() -> int:
    return int(time.time())

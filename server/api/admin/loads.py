"""`GET /v1/loads`: how busy the engine is, in SGLang's words, for the gateways that ask there.

Only what is known and means the same: one engine is one rank of data parallelism, its number 0. Of
prompts that wait the tokens are not counted, so `num_total_tokens` are those in the cache. Rates of
a moment (`gen_throughput`, `cache_hit_rate`, `utilization`) are left out: `/metrics` has counters.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter
from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.shared_totals import rounded_blocks
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.settings.api_keys import OPERATE

SECTIONS = ("all", "core", "memory", "spec", "lora", "disagg", "queues")  # but "core", none is here
INCLUDE = {"type": "string", "pattern": f"^({'|'.join(SECTIONS)})(,({'|'.join(SECTIONS)}))*$"}
TAKEN = {"dp_rank": ("0",), "format": ("json",)}


class RankLoad(Struct):
    """Tokens are counted in whole blocks, for a key that is not the operator's in sixteenths of
    the cache: others' prompts could be measured by them."""

    dp_rank: Count
    timestamp: float  # unix seconds
    num_running_reqs: Count
    num_waiting_reqs: Count
    num_total_reqs: Count
    num_used_tokens: Count
    num_total_tokens: Count
    max_total_num_tokens: Count
    token_usage: float
    max_running_requests: Count


class LoadSum(Struct):
    total_running_reqs: Count
    total_waiting_reqs: Count
    total_reqs: Count
    total_tokens: Count
    avg_token_usage: float


class Loads(Struct):
    timestamp: str  # ISO 8601
    version: str
    dp_rank_count: Count
    num_accelerators: Count
    loads: list[RankLoad]
    aggregate: LoadSum  # of the first versions, and what older gateways read


def loads_routes(
    context: Context, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> APIRouter:
    router = APIRouter()

    @router.get(
        "/v1/loads",
        **documented("Operations", answer=Loads, query={"name": "include", "schema": INCLUDE}),
    )
    async def loads(request: Request) -> Response:
        engine, _ = context.state.serving()
        check_query(request.query_params)
        stats, info, moment = engine.stats(), engine.info, now()
        used, total = stats.num_blocks_used, info.num_blocks
        if OPERATE not in lifetime_of(request).scopes:
            used = rounded_blocks(used, total)
        running, waiting = stats.num_requests_running, stats.num_requests_waiting
        num_groups = len(info.windows)  # a token takes a slot in each, as long as it is seen
        tokens, usage = used * info.block_size // num_groups, round(used / max(total, 1), 4)
        rank = RankLoad(
            dp_rank=0,
            timestamp=moment.timestamp(),
            num_running_reqs=running,
            num_waiting_reqs=waiting,
            num_total_reqs=running + waiting,
            num_used_tokens=tokens,
            num_total_tokens=tokens,
            max_total_num_tokens=total * info.block_size // num_groups,
            token_usage=usage,
            max_running_requests=info.max_num_seqs,
        )
        return json_response(
            Loads(
                timestamp=moment.isoformat(),
                version=context.config.version,
                dp_rank_count=1,
                num_accelerators=info.num_ranks,
                loads=[rank],
                aggregate=LoadSum(running, waiting, running + waiting, tokens, usage),
            )
        )

    return router


def check_query(query: QueryParams) -> None:
    """Raises `InvalidRequest` for what asks for something else than there is."""
    for name, value in query.multi_items():
        if name == "include":
            if not set(value.split(",")) <= set(SECTIONS):
                raise _refused(name, f"must name sections of {', '.join(SECTIONS)}.")
        elif name not in TAKEN:
            shown = "".join(c if c.isprintable() else "?" for c in name[:64])
            raise InvalidRequest(
                f"Unknown query parameter '{shown}'.", param=shown, code="unknown_parameter"
            )
        elif value not in TAKEN[name]:
            raise _refused(name, f"must be {TAKEN[name][0]}, the only one there is.")


def _refused(name: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"'{name}' {rule}", param=name, code="invalid_value")

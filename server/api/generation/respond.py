"""Admission, running and ending of one generation request: the one path of all answers.

A streaming answer sends its chunks as they come; a whole answer is the same chunks, joined.
Either way the permit is held until the last byte is out, and a client that leaves stops the work.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.answer_format import (
    AnswerFormat,
    Chunk,
    Joined,
    WholeAnswer,
)
from thirdeye.server.api.generation.choices import Generation, Run, run_choices
from thirdeye.server.api.generation.streamed_answer import StreamedAnswer, direct_writer_of
from thirdeye.server.api.generation.whole_size import WholeSize
from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.http.request_scope import Lifetime, lifetime_of
from thirdeye.server.api.http.sse import OPENAI, Framing, event_stream
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.usage import Tally, server_timing
from thirdeye.server.errors import ClientGone
from thirdeye.server.logs import log_request
from thirdeye.server.text.events import TextEvent

Result = TypeVar("Result")


async def respond(
    request: Request,
    context: Context,
    generation: Generation,
    form: AnswerFormat[Chunk],
    tally: Tally,
    *,
    stream: bool,
    framing: Framing = OPENAI,
) -> Response:
    """Admit the generation and answer it. Raises `ServerOverloaded`; `ApiError` if a choice fails.

    A stream has its status once its first bytes are there, or after `sse_ping` seconds of silence.
    """
    run = admit(request, context, generation, tally)
    if not stream:
        return await answer_whole(request, run, Joined(form), tally)
    lifetime = lifetime_of(request)
    answer = StreamedAnswer(run, form, tally, direct_writer_of(request))
    try:
        has_begun = await unless_gone(request, answer.begun(context.config.sse_ping))
    except BaseException:
        await answer.close()
        raise
    return answer_stream(
        request,
        context,
        answer.bodies(),
        is_silent=not has_begun,
        close=answer.close,
        headers={"Server-Timing": f"admit;dur={lifetime.elapsed_ms():.1f}"},
        framing=framing,
    )


def answer_stream(
    request: Request,
    context: Context,
    bodies: AsyncGenerator[bytes, None],
    *,
    close: Callable[[], Awaitable[None]] | None = None,
    is_silent: bool = False,
    headers: Mapping[str, str] | None = None,
    framing: Framing = OPENAI,
) -> Response:
    """Bodies of server-sent events, under this server's limits. `close` ends what makes them, if
    closing them alone does not; see `event_stream`."""
    return event_stream(
        bodies,
        request_id=lifetime_of(request).request_id,
        is_silent=is_silent,
        close=close or bodies.aclose,
        streams=context.state.streams,
        ping=context.config.sse_ping,
        send_timeout=context.config.send_timeout,
        headers=headers or {},
        framing=framing,
    )


def admit(
    request: Request,
    context: Context,
    generation: Generation,
    tally: Tally,
) -> Run:
    """What runs the generation, under a permit that is held until the HTTP request ends.

    What the caller's key has left is written into the answer's headers, refused or not.
    """
    engine, model = context.state.serving()
    lifetime = lifetime_of(request)
    limit = generation.limit
    if limit is not None and limit.is_above_room:
        if context.config.strict_max_tokens:
            raise limit.refusal()
        lifetime.ignored_params.add(limit.param)
    lifetime.ignored_params.update(generation.ignored)
    if generation.warnings:
        lifetime.headers["X-Prompt-Warning"] = "; ".join(generation.warnings)
    account = context.state.rates.open(lifetime.caller, lifetime.headers)
    permit = context.state.admission.admit(generation.width(engine.info.max_num_seqs))
    lifetime.at_end(permit.release)
    account.begin()
    lifetime.at_end(account.end)
    account.charge(requests=1, tokens=tally.num_prompt_tokens)
    lifetime.at_end(lambda: account.charge(tokens=tally.num_generated_tokens))
    context.metrics.request_began(tally)
    lifetime.at_end(lambda: _record(context, lifetime, generation, tally))
    lifetime.trace.computes(engine, [one.request_id for one in generation.requests])
    retry_after = context.state.admission.retry_after
    run = partial(run_choices, generation, engine, model.tokenizer, retry_after)
    return lambda deliver: lifetime.revocation.guard(run(deliver))


async def answer_whole(request: Request, run: Run, answer: WholeAnswer, tally: Tally) -> Response:
    """One JSON answer from all events. Raises `ApiError` if a choice fails or the answer grows too
    large, or `ClientGone`."""
    size = WholeSize()

    def deliver(index: int, event: TextEvent) -> None:
        tally.add(index, event)
        size.add(event)
        answer.add(index, event)

    await unless_gone(request, run(deliver))
    lifetime = lifetime_of(request)
    headers = {"openai-processing-ms": str(round(lifetime.elapsed_ms()))}
    if timings := tally.engine_timings:
        headers["Server-Timing"] = server_timing(timings, tally.num_cached_tokens)
    return json_response(answer.whole(), headers=headers)


async def unless_gone(request: Request, work: Coroutine[object, object, Result]) -> Result:
    """The work's result. Raises `ClientGone`, the work cancelled, if the client leaves first."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_until_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _record(context: Context, lifetime: Lifetime, generation: Generation, tally: Tally) -> None:
    """The metrics and the log line of a request that has ended, one way or another."""
    context.metrics.request_ended(tally, generation.size)
    num_cut = generation.size - len(tally.outcomes)  # their reader left, or one of them failed
    ends = [*map(str, tally.outcomes.values()), *["unfinished"] * num_cut]
    lifetime.trace.describe(
        {
            "gen_ai.request.model": generation.model,
            "gen_ai.response.id": generation.id,
            "gen_ai.usage.input_tokens": tally.num_prompt_tokens,
            "gen_ai.usage.output_tokens": tally.num_generated_tokens,
            "gen_ai.response.finish_reasons": ends,
            "thirdeye.cached_tokens": tally.num_cached_tokens,
        }
    )
    log_request(
        logging.getLogger("thirdeye.request"),
        {
            "id": lifetime.request_id,
            **({"key": lifetime.caller} if lifetime.caller else {}),
            "model": generation.model,
            "choices": generation.size,
            "prompt_tokens": tally.num_prompt_tokens,
            "cached_tokens": tally.num_cached_tokens,
            "completion_tokens": tally.num_generated_tokens,
            "finish": ",".join(ends),
            "timings": msgspec.to_builtins(tally.timings()),
            **({"warnings": [*generation.warnings]} if generation.warnings else {}),
            **generation.notes,
        },
    )

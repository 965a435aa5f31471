"""Two hundred official clients that try again at a server with sixteen places: no storm."""

import asyncio
from collections.abc import Callable

import httpx
import openai
import pytest

from tests.api.support import fake_engine, live, ready_state, says

CALLERS, PLACES = 200, 16


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_a_storm_of_retries(record_property: Callable[[str, object], None]) -> None:
    """At most three tries for each, every one of which ends; then all is as ever."""
    state = ready_state(fake_engine(says("x" * 20), max_num_seqs=PLACES, delay=0.02))
    num_tries = 0

    async def count(request: httpx.Request) -> None:
        nonlocal num_tries
        num_tries += 1

    async def call(client: openai.AsyncOpenAI) -> str:
        try:
            answer = await client.completions.create(model="tiny", prompt="Hi", max_tokens=30)
        except openai.RateLimitError:
            return "refused"
        assert answer.choices[0].finish_reason == "stop"
        return "answered"

    async def main(url: str) -> list[str]:
        limits = httpx.Limits(max_connections=CALLERS)
        transport = openai.DefaultAsyncHttpxClient(
            trust_env=False, limits=limits, event_hooks={"request": [count]}
        )
        async with openai.AsyncOpenAI(
            base_url=url + "/v1", api_key="none", max_retries=2, http_client=transport
        ) as client:
            return await asyncio.gather(*(call(client) for _ in range(CALLERS)))

    with live(state) as url:
        ends = asyncio.run(main(url))
        assert httpx.get(url + "/health", trust_env=False).status_code == 200
    record_property("tries_a_call", round(num_tries / CALLERS, 2))
    record_property("answered", ends.count("answered"))
    assert num_tries <= 3 * CALLERS
    assert ends.count("answered") >= 3 * PLACES
    assert state.admission.in_flight == 0

"""Connections that say little for long: a thousand streams, and six hundred that never finish."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.api.support import EOS, fake_engine, live, ready_state
from tests.trust.live.raw_client import ask, quantile, request_bytes
from thirdeye.server.transport.connection_guard import guarded

STREAMS, EVENTS = 1_000, 60
OF_EACH, HEAD_SECONDS, BODY_SECONDS = 200, 10.0, 30.0
BODY = {"model": "tiny", "prompt": "Hi", "max_tokens": 400, "stream": True}


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_a_thousand_open_streams(record_property: Callable[[str, object], None]) -> None:
    """An event a second for a minute: each ends with all of them."""
    engine = fake_engine([*b"x" * EVENTS, EOS], delay=1.0, max_num_seqs=STREAMS)

    async def main(port: int) -> list[int]:
        answers = await asyncio.gather(*(ask(port, BODY, patience=250) for _ in range(STREAMS)))
        return [
            a.text.count(b'"text":"x"') + a.text.count(b'"text": "x"') for a in answers if a.is_done
        ]

    with live(ready_state(engine), backlog=STREAMS) as url:
        events = asyncio.run(main(port_of(url)))
    record_property("streams_done", len(events))
    assert len(events) == STREAMS
    assert sum(events) == STREAMS * EVENTS


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_six_hundred_that_never_finish(record_property: Callable[[str, object], None]) -> None:
    """Silent, in the middle of a head, and a body a byte a second: all closed in time, and whoever
    asks meanwhile is answered."""
    whole = request_bytes(BODY)

    async def lingerer(port: int, sent: bytes, drip: bytes) -> float:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        closed = asyncio.create_task(reader.read())
        for byte in drip:
            done, _ = await asyncio.wait({closed}, timeout=1)
            if done:
                break
            writer.write(bytes([byte]))
        await asyncio.wait({closed}, timeout=60)
        assert closed.done(), "still open"
        closed.exception()
        writer.close()
        return time.monotonic() - began

    async def main(port: int) -> tuple[list[float], list[float], list[float]]:
        lingerers = {
            "silent": [lingerer(port, b"", b"") for _ in range(OF_EACH)],
            "head": [lingerer(port, whole[:30], whole[30:60]) for _ in range(OF_EACH)],
            "body": [lingerer(port, whole[:-60], whole[-60:-10]) for _ in range(OF_EACH)],
        }
        tasks = [asyncio.gather(*group) for group in lingerers.values()]
        await asyncio.sleep(1)
        healthy = []
        while not all(task.done() for task in tasks):
            answer = await ask(port, BODY | {"max_tokens": 3})
            assert answer.is_done, answer.text
            healthy.append(answer.seconds)
            await asyncio.sleep(0.1)
        silent, head, body = [await task for task in tasks]
        return [*silent, *head], body, healthy

    protocol = guarded(max_connections=1024, head_seconds=HEAD_SECONDS, body_seconds=BODY_SECONDS)
    with live(ready_state(fake_engine()), http=protocol, backlog=2048) as url:
        heads, bodies, healthy = asyncio.run(main(port_of(url)))
    record_property("heads_closed_after_s", round(max(heads), 1))
    record_property("bodies_closed_after_s", round(max(bodies), 1))
    record_property("healthy_p99_ms", round(1000 * quantile(healthy, 0.99)))
    assert max(heads) < HEAD_SECONDS + 5
    assert max(bodies) < BODY_SECONDS + 5

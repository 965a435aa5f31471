"""How answers in flight end: by themselves, or with an error that their client can read."""

import asyncio

from thirdeye.server.transport.lifecycle import Lifecycle


async def end_answers(state: Lifecycle) -> None:
    """With the engine closed, each answer ends with an error its client can read."""
    await state.close_engine()
    await until_idle(state)


async def until_idle(state: Lifecycle) -> None:
    while state.in_flight:
        await asyncio.sleep(0.02)

"""How answers in flight end: by themselves, or with an error that their client can read."""

import asyncio

from thirdeye.server.api.state.server_state import ServerState


async def end_answers(state: ServerState) -> None:
    """With the engine closed, each answer ends with an error its client can read."""
    if state.engine is not None:
        await state.engine.close()
    await until_idle(state)


async def until_idle(state: ServerState) -> None:
    while state.admission.in_flight:
        await asyncio.sleep(0.02)

"""Two cards: sums over ranks by NCCL, captured in graphs. Nothing of it has run yet.

TRITON_INTERPRET=0 pytest tests/gpu/checks/test_ranks.py
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.distributed.test_ranks import children, requests, small_recipe, start
from tests.engine.process.test_engines import endings
from tests.engine.toy import collect, make_request, tokens_of, until
from tests.tiny import tiny_llama
from thirdeye.server.engine.interface.types import FinishReason, StepOutput
from thirdeye.server.load.engine_recipe import EngineRecipe

SECONDS = 300.0  # for kernels that are compiled and graphs that are captured


@pytest.fixture(autouse=True)
def two_cards(gpu: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("ranks on GPUs need two of them")


def recipe_of(path: Path, graphs: str, **changes: Any) -> EngineRecipe:
    return small_recipe(
        path,
        device="cuda",
        dtype="float32",
        tensor_parallel=2,
        speculation="off",
        cuda_graphs=graphs,
        **changes,
    )


def test_graphs_with_sums_in_them_answer_as_steps_that_are_told(tmp_path: Path) -> None:
    """NCCL's sums, replayed: the same tokens."""
    tiny_llama(tmp_path)

    async def main(graphs: str) -> list[list[StepOutput]]:
        engine = await start(recipe_of(tmp_path, graphs))
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.gather(*[collect(engine, one) for one in requests()])
        finally:
            await engine.close()

    ahead, told = asyncio.run(main("on")), asyncio.run(main("off"))
    assert [tokens_of(one) for one in ahead] == [tokens_of(one) for one in told]


def test_a_rank_that_is_lost_in_a_replay_ends_the_engine(tmp_path: Path) -> None:
    """The sum on the other device waits for ever; the host does not."""
    tiny_llama(tmp_path)

    async def main() -> None:
        engine = await start(recipe_of(tmp_path, "on", rank_timeout=6))
        (other,) = children(engine.pid)
        request = make_request("0", [5], max_tokens=250, ignore_eos=True)
        task = asyncio.create_task(collect(engine, request))
        await until(lambda: engine.stats().num_requests_running == 1, SECONDS)
        os.kill(other, signal.SIGSTOP)
        async with asyncio.timeout(SECONDS):
            assert endings(await task)[0] is FinishReason.ERROR
        await engine.close()

    asyncio.run(main())

"""An engine process for tests: the toy model, and a recipe that says how it should misbehave.

Run by path with the socket's descriptor number as its last argument, like the real worker.
"""

import gc
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[3]))

if __name__ == "__main__":  # as the real worker does: a third less to do
    from thirdeye.model.loading.import_torch import import_torch

    gc.disable()
    import_torch()

import torch

from tests.engine.process.told_steps import ToldSteps
from tests.engine.toy import ToyCache, ToyModel, toy_config, toy_core, toy_info
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import EngineInfo
from thirdeye.server.engine.process.engine_process import OnEnd, serve_engine


class Recipe(msgspec.Struct):
    load_seconds: float = 0.0
    load_error: str | None = None
    step_seconds: float = 0.0
    die_after_steps: int | None = None
    step_file: str | None = None  # is there as soon as a step has begun
    told_file: str | None = None  # see `ToldSteps`


class SlowModel(ToyModel):
    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._told = ToldSteps(Path(recipe.told_file)) if recipe.told_file else None
        self._num_steps = 0

    def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
        self._num_steps += 1
        if self._num_steps == self._recipe.die_after_steps:
            os._exit(66)
        if self._recipe.step_file is not None:
            Path(self._recipe.step_file).touch()
        time.sleep(self._recipe.step_seconds)
        if self._told is not None:
            self._told.wait()
        return super().__call__(batch, kv_cache)


def load(
    raw: bytes, progress: Callable[[str, int, int], None], on_end: OnEnd
) -> tuple[EngineCore, EngineInfo]:
    recipe = msgspec.msgpack.decode(raw, type=Recipe)
    progress("weights", 5, 10)
    time.sleep(recipe.load_seconds)
    if recipe.load_error is not None:
        raise FileNotFoundError(recipe.load_error)
    progress("weights", 10, 10)
    config = toy_config()
    return toy_core(config, SlowModel(recipe)), toy_info(config)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(serve_engine(socket.socket(fileno=int(sys.argv[-1])), load))

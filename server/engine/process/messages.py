"""What crosses the pipe between the server and its engine process: typed structs, nothing else.

Each is one msgpack map with a `type` tag, so a typed decoder refuses whatever is not listed here.
The server speaks first (`Hello`); the engine answers with any number of `Progress`, then `Ready`,
then one `Step` for each step of all requests together. `Fatal` is the engine's last word. The
thread engine uses the same words without the pipe.
"""

from msgspec import Struct

from thirdeye.server.engine.interface.adapters import AdapterReport, AdapterSource
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.step_record import StepRecord
from thirdeye.server.engine.interface.trace import Trace, TraceRequest
from thirdeye.server.engine.interface.types import EngineInfo, Request, StepOutput


class Hello(Struct, frozen=True, tag=True):
    """What to load. Only the composition root knows what is inside."""

    recipe: bytes


class Add(Struct, frozen=True, tag=True):
    request: Request


class Abort(Struct, frozen=True, tag=True):
    request_id: str


class Inspect(Struct, frozen=True, tag=True):
    request: TraceRequest


class Uninspect(Struct, frozen=True, tag=True):
    """Its reader has left: tell no more of it."""

    request_id: str


class Watch(Struct, frozen=True, tag=True):
    """Tell of each step what it did, beginning with those remembered and not told yet."""


class Unwatch(Struct, frozen=True, tag=True):
    """Nobody looks any more: send no records."""


class ResetPrefixCache(Struct, frozen=True, tag=True):
    """Forget the prefixes that no running request holds."""


class LoadAdapter(Struct, frozen=True, tag=True):
    source: AdapterSource


class UnloadAdapter(Struct, frozen=True, tag=True):
    """Free it when the last request that has it has ended."""

    number: int


class Stop(Struct, frozen=True, tag=True):
    """End what runs with ABORT, then leave."""


class Progress(Struct, frozen=True, tag=True):
    """How far loading is: so many bytes of those that `phase` takes."""

    phase: str
    done: int
    total: int


class Ready(Struct, frozen=True, tag=True):
    info: EngineInfo


class Step(Struct, frozen=True, tag=True, omit_defaults=True):
    """All that one step did. `sequence` counts 0, 1, 2, ...: a gap is a lost message, a bug."""

    sequence: int
    outputs: list[StepOutput]
    stats: EngineStats
    records: list[StepRecord] = []  # for watchers
    traces: list[Trace] = []  # of what is being inspected
    adapters: list[AdapterReport] = []  # of those that were to be loaded


class Fatal(Struct, frozen=True, tag=True):
    """Why the engine ends: fit for the server's log and its ready endpoint."""

    message: str


Adapter = LoadAdapter | UnloadAdapter
Command = Add | Abort | Inspect | Uninspect | Watch | Unwatch | ResetPrefixCache | Adapter | Stop
ToEngine = Hello | Command
FromEngine = Progress | Ready | Step | Fatal

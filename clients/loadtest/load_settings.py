"""What a load test is asked for: the loads to offer, for how long, of which requests.

`LoadSettings` stands in the result as it is, so that a result says how it came about.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from thirdeye.clients.loadtest.results.stats import Goals
from thirdeye.clients.loadtest.workload.arrivals import CONSTANT, Arrivals
from thirdeye.clients.loadtest.workload.prompts import Mix


@dataclass(frozen=True, slots=True)
class OfferedLoad:
    """One point: users in a closed loop, or requests per second in an open one."""

    concurrency: int | None = None
    rate: float | None = None

    def __str__(self) -> str:
        if self.rate is not None:
            return f"{self.rate:.3g} req/s"
        return f"{self.concurrency} user{'' if self.concurrency == 1 else 's'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """What is asked for. Without a rate it is a closed loop.

    `num_requests` counts conversations, at each point; `seconds` ends a point's new requests. A
    trace replaces the mix, and its own arrival times are kept where no load is given.
    """

    model: str | None = None
    is_chat: bool = True
    params: dict[str, Any] = field(default_factory=dict)
    mix: Mix = field(default_factory=Mix)
    trace: str | None = None
    concurrency: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    burstiness: float = 1.0
    ramp_to: float | None = None
    max_concurrency: int | None = None
    is_sweep: bool = False
    sweep_limit: int = 512
    num_requests: int | None = None
    seconds: float | None = None
    repeats: int = 1
    warmup: int = 1
    goals: Goals = field(default_factory=Goals)
    timeout: float = 600.0
    max_retries: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.concurrency and self.rates:
            raise ValueError("'concurrency' is a closed loop and 'rate' an open one: choose one.")
        if self.ramp_to and (self.is_sweep or len(self.rates) != 1):
            raise ValueError("'ramp_to' needs one 'rate' to begin with, and no sweep.")
        if self.mix.num_turns > 1 and not self.is_chat:
            raise ValueError("'turns' needs chat: completions have none.")
        for name in ("concurrency", "rates", "num_requests", "seconds", "repeats", "timeout"):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if any(one is not None and not one > 0 for one in values):
                raise ValueError(f"'{name}' must be greater than 0, got {value}.")
        Arrivals(1.0, self.burstiness, self.ramp_to)

    def loads(self) -> list[OfferedLoad | None]:
        """The points to measure; of a sweep, the first. None: as the trace has it."""
        if self.rates:
            return [OfferedLoad(rate=rate) for rate in self.rates[: 1 if self.is_sweep else None]]
        if self.trace and not self.concurrency and not self.is_sweep:
            return [None]
        users = self.concurrency or (1,)
        return [OfferedLoad(concurrency=count) for count in users[: 1 if self.is_sweep else None]]

    def shown(self) -> dict[str, Any]:
        """As it stands in the result. JSON knows no infinity."""
        shown = asdict(self)
        shown["burstiness"] = "constant" if self.burstiness == CONSTANT else self.burstiness
        return shown

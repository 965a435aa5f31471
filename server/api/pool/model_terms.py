"""What is known of a model before it is loaded, the states it can be in, and what becomes of a
request that has to wait for it."""

from dataclasses import dataclass
from enum import StrEnum


class ModelPhase(StrEnum):
    """Memory is held from `LOADING` to the end of `LEAVING`."""

    ABSENT = "absent"  # not loaded yet
    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"  # its process is being ended
    ASLEEP = "asleep"  # was loaded, and will be again when it is asked for
    FAILED = "failed"  # could not be loaded, or kept alive


HOLDING = frozenset({ModelPhase.LOADING, ModelPhase.READY, ModelPhase.LEAVING})
UNLOADED = frozenset({ModelPhase.ABSENT, ModelPhase.ASLEEP})


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """`num_bytes`: all the memory it takes while loaded. `keep_alive`: seconds without use until it
    is put to sleep, negative: for ever. A pinned one is neither put to sleep nor pushed out."""

    name: str
    num_bytes: int
    is_pinned: bool = False
    keep_alive: float = 300.0


class TicketOutcome(StrEnum):
    """Of a request for a model. Each ticket gets exactly one."""

    GRANTED = "granted"  # it runs, until `release`
    QUEUE_FULL = "queue_full"
    TIMED_OUT = "timed_out"
    FAILED = "failed"  # the model
    CLOSED = "closed"  # the server leaves


@dataclass(eq=False, slots=True)
class Ticket:
    """A request that names a model, and what became of it; None while it waits. `tenant`: whose."""

    model: str
    deadline: float
    tenant: str = ""
    outcome: TicketOutcome | None = None

    @property
    def is_granted(self) -> bool:
        return self.outcome is TicketOutcome.GRANTED


class DoesNotFit(ValueError):
    """Models that memory will never hold; the text says which and how much is missing."""


def check_fits(models: tuple[ModelTerms, ...], max_bytes: int) -> None:
    """Each must fit beside those that never leave. Raises `DoesNotFit`."""
    pinned = sum(model.num_bytes for model in models if model.is_pinned)
    if pinned > max_bytes:
        raise DoesNotFit(
            f"'--memory': the pinned models take {gib(pinned)} GiB, {gib(max_bytes)} are allowed: "
            "raise it, or pin fewer."
        )
    for model in models:
        if not model.is_pinned and model.num_bytes + pinned > max_bytes:
            beside = f" beside {gib(pinned)} of pinned models" if pinned else ""
            raise DoesNotFit(
                f"'--memory': {model.name} takes {gib(model.num_bytes)} GiB{beside}, "
                f"{gib(max_bytes)} are allowed: raise it, lower '--kv-memory', or choose a smaller "
                "'--quantize'."
            )


def gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.2f}"

"""One row of the plan: what is tried at which size, what must hold, and the tests that show it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`full` and `push` name tests as pytest does, or whole files: those that `make trust` runs,
    and those of every push. `size` and `push_size` say how much of it each tries. What is in
    `other_rows` is left out of `full`: another row tries it."""

    number: int
    title: str
    size: str
    holds: str
    full: tuple[str, ...]
    push: tuple[str, ...]
    push_size: str = "the same"
    other_rows: tuple[str, ...] = ()
    by_the_clock: bool = False  # has limits of time that hold where nothing else runs

"""One row of the plan: what is tried at which size, what must hold, and the tests that show it."""

from dataclasses import dataclass

ALONE, BESIDE = "alone", "beside"


@dataclass(frozen=True, slots=True)
class Row:
    """`full` and `push` name tests as pytest does, or whole files: those that `make trust` runs,
    and those of every push. `size` and `push_size` say how much of it each tries. What is in
    `other_rows` is left out of `full`: another row tries it. Of a row by the clock, `beside` names
    the part of `full` without a limit of time: it runs with the other rows, and the rest alone.
    """

    number: int
    title: str
    size: str
    holds: str
    full: tuple[str, ...]
    push: tuple[str, ...]
    push_size: str = "the same"
    other_rows: tuple[str, ...] = ()
    by_the_clock: bool = False  # has limits of time that hold where nothing else runs
    beside: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Its tests by how they are run: `alone` on the machine, or `beside` another row's."""
        if not self.by_the_clock:
            return {BESIDE: self.full}
        alone = tuple(test for test in self.full if test not in self.beside)
        return {ALONE: alone} | ({BESIDE: self.beside} if self.beside else {})

"""A bad day, drawn: who asks what when, and what breaks at which moment. Plain data.

Times are seconds of a clock that jumps (`tests/oracles/virtual_time.py`). A step takes 0.1 s.
"""

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st


@dataclass(frozen=True)
class Visitor:
    """A client: when it comes, what it asks, and how it behaves."""

    at: float
    num_tokens: int
    prompt: str = "Hi"
    is_stream: bool = True
    num_choices: int = 1
    leaves_after: float | None = None
    seconds_a_read: float = 0.0  # a slow reader; beyond the send timeout it is dropped
    has_grammar: bool = False


@dataclass(frozen=True)
class EngineLife:
    """What goes wrong in one engine process, the first or one of its successors."""

    load_seconds: float = 1.0
    load_fault: str = ""  # "spawn": no process; "disk": it says why; "crash": it just ends
    crash_at: float | None = None  # seconds after it was ready
    crash_cuts: int = 0  # bytes of what it was sending that still arrive
    hang_at_step: int | None = None  # a step that never ends
    memory_at_steps: frozenset[int] = frozenset()  # steps that find no memory
    lean_at: tuple[float, ...] = ()  # for half a second the cache is as small as may be
    pipe_delays: tuple[float, ...] = (0.0,)  # of each message in turn, either way
    compile_seconds: float = 0.5
    compile_faults: frozenset[int] = frozenset()  # grammars, by number, that do not compile
    compile_hangs: frozenset[int] = frozenset()  # and that never end
    clock_jumps: tuple[tuple[float, float], ...] = ()  # at this moment, so many seconds ahead


@dataclass(frozen=True)
class BadDay:
    visitors: tuple[Visitor, ...]
    lives: tuple[EngineLife, ...] = field(default=())  # later ones are without a fault
    drain_at: float | None = None
    drain_seconds: float = 30.0


def _seldom(strategy: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.none() | st.none() | strategy


TIMES = st.integers(0, 60).map(lambda n: n / 8)
NUMBERS = st.frozensets(st.integers(0, 30), max_size=3)

VISITORS = st.builds(
    Visitor,
    at=TIMES,
    num_tokens=st.integers(1, 24),
    prompt=st.sampled_from(["Hi", "Hi there, it is me", "x" * 30, "Hi there, it is you"]),
    is_stream=st.booleans(),
    num_choices=st.sampled_from([1, 1, 1, 3]),
    leaves_after=_seldom(st.integers(0, 30).map(lambda n: n / 10)),
    seconds_a_read=st.sampled_from([*[0.0] * 8, 0.3, 100.0]),
    has_grammar=st.sampled_from([False, False, True]),
)
LIVES = st.builds(
    EngineLife,
    load_seconds=st.sampled_from([0.0, 0.5, 3.0]),
    load_fault=st.sampled_from(["", "", "", "spawn", "disk", "crash"]),
    crash_at=_seldom(TIMES),
    crash_cuts=st.integers(0, 400),
    hang_at_step=st.sampled_from([None, None, None, 1, 4, 12]),
    memory_at_steps=NUMBERS,
    lean_at=st.lists(TIMES, max_size=3).map(tuple),
    pipe_delays=st.lists(st.sampled_from([0.0, 0.0, 0.01, 0.3, 2.0]), min_size=1, max_size=5).map(
        tuple
    ),
    compile_seconds=st.sampled_from([0.0, 0.2, 1.5]),
    compile_faults=NUMBERS,
    compile_hangs=st.sampled_from([frozenset(), frozenset(), frozenset({0}), frozenset({2})]),
    clock_jumps=st.lists(st.tuples(TIMES, st.sampled_from([1.0, 40.0, 4000.0])), max_size=2).map(
        tuple
    ),
)
FIRST_LIVES = st.builds(
    lambda life, fault: replace(life, load_fault=fault, load_seconds=0.0),
    LIVES,
    st.sampled_from(["", "", "", "", "", "", "", "disk"]),  # it ends the server: most days go on
)
DAYS = st.builds(
    BadDay,
    visitors=st.lists(VISITORS, min_size=1, max_size=6).map(tuple),
    lives=st.tuples(FIRST_LIVES, st.lists(LIVES, max_size=3)).map(lambda t: (t[0], *t[1])),
    drain_at=_seldom(TIMES),
    drain_seconds=st.sampled_from([0.0, 1.0, 30.0]),
)

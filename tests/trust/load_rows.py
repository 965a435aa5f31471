"""Many clients, clients that leave, processes that die, machines that are full."""

from tests.trust.row import Row

LIFE = "tests/e2e/life"
LOAD_ROWS = (
    Row(
        4,
        "slow readers",
        "32 clients that never read beside 8 that do",
        "the 8 are answered, the 32 closed at `--send-timeout`; blocks and descriptors come back",
        full=(f"{LIFE}/test_leavers.py::test_slow_readers",),
        push=(f"{LIFE}/test_leavers.py::test_slow_readers",),
    ),
    Row(
        5,
        "clients that leave",
        "1,000, streamed or not, one choice or four, at any moment",
        "blocks, gauges and descriptors are back within one step and 50 ms of the last of ten, "
        "and 50 ms for the look that tells",
        full=(f"{LIFE}/test_leavers.py::test_a_thousand_clients_that_leave",),
        push=(f"{LIFE}/test_leavers.py::test_clients_that_leave",),
        push_size="60, on any clock",
        by_the_clock=True,
    ),
    Row(
        6,
        "the engine is killed",
        "20 kills under 18 clients each",
        "each is told within 2 s, `/health` at once; the engine is back within its load time and "
        "2 s; the fifth death in a minute of service ends the server",
        full=(
            f"{LIFE}/test_kills.py::test_twenty_kills",
            f"{LIFE}/test_kills.py::test_the_fifth_death_is_the_servers",
        ),
        push=(
            f"{LIFE}/test_kills.py::test_the_engine_comes_back",
            f"{LIFE}/test_kills.py::test_the_fifth_death_is_the_servers",
        ),
        push_size="1 kill, on any clock",
        by_the_clock=True,
        beside=(f"{LIFE}/test_kills.py::test_the_fifth_death_is_the_servers",),
    ),
    Row(
        7,
        "the server is killed",
        "20 kills, serving or loading",
        "the engine is gone within 2 s; no shared memory is left",
        full=(f"{LIFE}/test_kills.py::test_twenty_kills_of_the_server",),
        push=(f"{LIFE}/test_kills.py::test_kill_of_the_server_leaves_nothing",),
        push_size="1 kill",
        by_the_clock=True,
    ),
    Row(
        8,
        "KV cache too small",
        "200 requests of 1 to 16 blocks in a pool of 16",
        "200 of 200 are answered, by preemption, as with a large pool",
        full=("tests/engine/cache/test_exhaustion.py",),
        push=("tests/engine/cache/test_exhaustion.py",),
    ),
    Row(
        10,
        "drain on SIGTERM",
        "50 drains of 16 streams and 4 whole answers",
        "all that has begun is completed, all else gets 503 with `Retry-After`; status 0; a second "
        "signal ends at once",
        full=(
            f"{LIFE}/test_drain.py::test_everything_in_flight_is_completed",
            f"{LIFE}/test_drain.py::test_a_second_signal_ends_at_once",
        ),
        push=(
            f"{LIFE}/test_drain.py::test_everything_in_flight_is_completed",
            "tests/api/http/test_serve.py::test_sigterm_lets_answers_end_and_refuses_new_ones",
            "tests/api/http/test_serve.py::test_a_second_signal_ends_everything_at_once",
        ),
        push_size="1 drain",
    ),
    Row(
        13,
        "deadlines",
        "500 requests whose client leaves, or whose time is up, before their turn",
        "0 are computed",
        full=("tests/engine/scheduling/test_deadlines.py",),
        push=("tests/engine/scheduling/test_deadlines.py",),
    ),
    Row(
        36,
        "injected faults",
        "10,000 days on a simulated machine: crashes, delays and refusals in allocator, pipe, "
        "disk, clock, compiler and in steps, under clients that leave or read slowly, with drains",
        "each client has exactly one proper end, what is answered is right; no block, permit, "
        "task, process or socket is left",
        full=("tests/trust/faults",),
        push=(
            "tests/trust/faults/test_faults.py::test_a_hundred_bad_days",
            "tests/trust/faults/test_faults.py::test_a_planted_bug_is_found",
        ),
        push_size="100 days, 5 planted bugs",
    ),
    Row(
        11,
        "overload",
        "60 s of ten times what can be served, on the default model; 30 s on a tiny one, which has "
        "more than a thousand to refuse in each; simulated floods of every kind",
        "refused within 50 ms (p99) with a `Retry-After`; who is let in has its first token within "
        "`--max-queue-time`; 95 % of what two cores leave is served: of saturation beside the same "
        "generator and as many refusals by a listener that does nothing else; 2 s later all is as "
        "ever",
        full=("tests/trust/live/test_flood.py", "tests/api/admission/test_overload.py"),
        push=("tests/api/admission/test_overload.py",),
        push_size="one simulated flood of each kind",
        by_the_clock=True,
        beside=("tests/api/admission/test_overload.py",),
    ),
    Row(
        1,
        "load held",
        "64 at once, 256 requests of 64 tokens, on the default model",
        "all end, usage is right, each text is what it is alone; memory grows by 5 % at most",
        full=("tests/trust/live/test_held.py",),
        push=("tests/trust/live/test_held.py::test_sixteen_at_once",),
        push_size="16 at once, 32 requests, a tiny model",
    ),
    Row(
        3,
        "soak",
        "100,000 requests of 8 kinds on a tiny model, one in five left in the middle, after 10,000",
        "memory grows by less than 1 MB for 10,000; no descriptor, connection or block is left",
        full=("tests/trust/live/test_soak.py",),
        push=("tests/e2e/clients/test_rest.py::test_memory_does_not_grow",),
        push_size="200 requests",
    ),
    Row(
        9,
        "no memory in a step",
        "50 steps at random, twice: for real on the host, and as a device and Python say it",
        "the requests of these steps alone fail, with 503; every other answer is right",
        full=(
            "tests/engine/core/test_no_memory.py",
            "tests/engine/core/test_engine_core.py",
        ),
        push=(
            "tests/engine/core/test_no_memory.py",
            "tests/engine/core/test_engine_core.py",
        ),
    ),
    Row(
        12,
        "retries of the official client",
        "200 callers at 16 places",
        "three tries each at most, each with an end; nothing is left",
        full=("tests/trust/live/test_retry_storm.py",),
        push=("tests/api/openai/test_openai_client.py::test_a_full_queue_is_retried_when_told",),
        push_size="1 caller",
    ),
    Row(
        2,
        "open streams",
        "1,000 at once, an event a second for a minute, over the fake engine",
        "each ends with all its events",
        full=("tests/trust/live/test_many_connections.py::test_a_thousand_open_streams",),
        push=("tests/api/generation/test_stream.py::test_many_finished_streams_leave_nothing",),
        push_size="streams one after the other",
    ),
    Row(
        17,
        "slow clients",
        "200 silent, 200 in the middle of a head, 200 bodies of a byte a second",
        "closed within 10, 10 and 30 s; whoever asks meanwhile is answered",
        full=("tests/trust/live/test_many_connections.py::test_six_hundred_that_never_finish",),
        push=("tests/api/http/test_guard.py",),
        push_size="one of each, with short limits",
        by_the_clock=True,
    ),
)

"""What the engine counts: gauges and counters, told with its steps."""

from msgspec import Struct

STEP_TOKENS_BOUNDS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class MissedPath(Struct, frozen=True, gc=False):
    """A fast path that does not apply to what is served (`model/fast_path.py`)."""

    path: str
    reason: str
    num_steps: int  # that went without, so far


class EngineStats(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The engine's numbers after its latest step. Counters (`*_total`) only grow."""

    num_requests_running: int = 0
    num_requests_waiting: int = 0
    num_blocks_total: int = 0
    num_blocks_used: int = 0
    num_blocks_by_group: list[int] = []  # used by each of `EngineInfo.windows`, if any is above 0
    num_states_used: int = 0  # rows of layers that keep a state, held by running sequences
    num_snapshots: int = 0  # rows of theirs that can be found again
    snapshot_hits_total: int = 0  # sequences that went on from one
    snapshot_missed_tokens_total: int = 0  # whose KV was there and whose state was not
    prompt_tokens_total: int = 0
    generation_tokens_total: int = 0
    prefix_cache_queries_total: int = 0
    prefix_cache_hits_total: int = 0
    preemptions_total: int = 0
    queue_timeouts_total: int = 0
    steps_total: int = 0
    spec_decode_num_draft_tokens_total: int = 0
    spec_decode_num_accepted_tokens_total: int = 0
    draft_seconds_total: float = 0.0  # in which a model guessed
    is_draft_paused: bool = False  # such a model guesses nothing for now: it lost time
    schedule_seconds_total: float = 0.0
    forward_seconds_total: float = 0.0
    sample_seconds_total: float = 0.0
    emit_seconds_total: float = 0.0  # telling the API process about the steps
    idle_seconds_total: float = 0.0  # without work; what lasts is counted when work comes
    step_tokens_total: int = 0  # computed in all steps together
    step_tokens_counts: list[int] = []  # steps by size, see STEP_TOKENS_BOUNDS; the last is larger
    missed_paths: list[MissedPath] = []
    num_adapters: int = 0  # that are loaded, those among them that shall leave
    adapter_bytes: int = 0
    running_adapters: list[int] = []  # numbers of those that some running request has
    waiting_adapters: list[int] = []

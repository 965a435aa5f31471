"""The engine's settings: plain, frozen, resolved. Nothing below reads an environment or a flag."""

from enum import StrEnum

from msgspec import Struct


class Admission(StrEnum):
    """What a request must find free before it is let in."""

    PREEMPT = "preempt"  # blocks for its prompt: some may be thrown out later, and computed again
    RESERVE = "reserve"  # blocks up to its max_tokens: fewer run at once, none is ever thrown out


BLOCK_SIZE = 16  # tokens in a block of the KV cache


def default_batched_tokens(device_type: str, max_num_seqs: int) -> int:
    """`max_num_batched_tokens` where nobody asked for one: it bounds how long a step can take.

    What decodes waits for the prompt chunk that shares its step, so a CPU, where each token of it
    takes milliseconds, gets few; a GPU needs thousands to be busy. Twice the rows leave half of a
    full batch's step to prompts.
    """
    return max(2048 if device_type == "cuda" else 256, 2 * max_num_seqs)


STEP_SECONDS = 0.25  # on a CPU: the longest pause that a prompt makes in others' answers
MOST_ON_CPU = 1024  # tokens in a step, however fast the machine


def most_blocks(window: int, num_tokens: int, block_size: int, num_ahead: int) -> int:
    """Blocks that layers hold of a sequence of so many tokens at most: all of it, or with a window
    (0: none) as many as it and the `num_ahead` tokens to be computed next can reach into."""
    num_blocks = -(-num_tokens // block_size)
    if not window:
        return num_blocks
    span = window - 1 + num_ahead  # the first of these tokens sees so many before it
    return min(num_blocks, (span + block_size - 2) // block_size + 1)


class EngineConfig(Struct, frozen=True, kw_only=True):
    """Sizes of the scheduler and the KV cache.

    `max_num_batched_tokens` bounds the tokens of one step, `max_num_seqs` its rows. A sequence may
    hold `max_model_len` tokens, prompt and answer together. KV lives in `num_blocks` blocks of
    `block_size`; a model with layers that keep a state has `num_states` rows of such, one for each
    running sequence, the others for snapshots. A sequence has a block table for each group of
    layers, whose `windows` these are: 0 for one that keeps everything. Timeouts are in seconds
    since a request's arrival, 0 is none: `queue_timeout` for its first step, `request_timeout` for
    its last. A step may verify
    up to `num_draft_tokens` guesses for each decoding sequence, as long as it has no more than
    `max_tokens_with_drafts` tokens in all; see docs/speculation.md.
    """

    max_model_len: int
    num_blocks: int
    block_size: int = BLOCK_SIZE
    num_states: int = 0  # 0: no layer keeps a state
    windows: tuple[int, ...] = (0,)  # of each group of layers, see `model/state/kv_groups.py`
    steps_ahead: int = 0  # steps that are launched before the last one is read
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    step_seconds: float = 0.0  # a step's tokens are measured out to last so long; 0: not measured
    eos_token_ids: list[int] = []
    enable_prefix_caching: bool = True
    admission: Admission = Admission.PREEMPT
    queue_timeout: float = 0.0
    request_timeout: float = 0.0
    num_draft_tokens: int = 0  # 0: no speculation
    max_tokens_with_drafts: int = 16

    def __post_init__(self) -> None:
        if self.max_num_seqs > self.max_num_batched_tokens:
            raise ValueError(
                f"'max_num_seqs' ({self.max_num_seqs}) must not exceed 'max_num_batched_tokens' "
                f"({self.max_num_batched_tokens}): every running sequence needs a token a step."
            )
        if self.num_blocks_of(self.max_model_len) > self.num_blocks:
            room = self.num_blocks * self.block_size
            holds = f"hold {room} tokens, fewer than"
            if self.windows != (0,):
                holds = f"are fewer than the {self.num_blocks_of(self.max_model_len)} of"
            raise ValueError(
                f"{self.num_blocks} KV blocks of {self.block_size} {holds} 'max_model_len' "
                f"({self.max_model_len}): lower it or give more memory."
            )
        if self.num_states == 1:
            raise ValueError(
                "'num_states' must be at least 2, or 0 for a model without states, got 1: a "
                "sequence goes on from a snapshot into a state of its own."
            )

    @property
    def most_rows_verified(self) -> int:
        """Rows, of a token each, of a step that is launched ahead and verifies guesses; 0: none
        does. A state cannot be gone back from on the device, so none does that keeps one."""
        if not (self.steps_ahead and self.num_draft_tokens) or self.num_states:
            return 0
        return min(self.max_tokens_with_drafts, self.max_num_batched_tokens)

    @property
    def num_tokens_ahead(self) -> int:
        """Of one sequence, that steps may compute before what they did is known."""
        return self.max_num_batched_tokens * (1 + self.steps_ahead)

    def num_blocks_of(self, num_tokens: int) -> int:
        """Blocks that a sequence of so many tokens holds at most, in all groups together."""
        size, ahead = self.block_size, self.num_tokens_ahead
        return sum([most_blocks(window, num_tokens, size, ahead) for window in self.windows])

"""How many KV blocks fit: the one place that turns bytes of a device into a number of blocks."""

import os
from bisect import bisect_right

import torch

from thirdeye.server.control_groups import group_memory
from thirdeye.server.engine.interface.engine_config import most_blocks

GIB = 1 << 30
CPU_SHARE = 0.5  # of the memory free at start: the rest belongs to the user's other programs
CPU_DEFAULT = 4 * GIB // 5  # in fp32: 32 users of the default model, and 1 GB in all with 8 bits
CPU_LEAST_TOKENS = 4096  # of a larger model: one long chat
CPU_LEAST_STATES = 24  # of a model that keeps states: eight sequences, and snapshots
CUDA_SHARE = 0.9  # of the card, weights and all, where no trial step tells: see `profile_run.py`


def kv_budget(
    device: torch.device,
    asked: int | None,
    share: float = CUDA_SHARE,
    dtype: torch.dtype = torch.float32,
    bytes_per_token: int = 0,
    bytes_per_state: int = 0,
) -> int:
    """Bytes for the KV cache: what was asked for, else a default that leaves the machine usable.

    Call it after the weights are loaded: on a GPU they count as used. `bytes_per_token`: on a CPU
    the default holds `CPU_LEAST_TOKENS` of so many, `bytes_per_state`: or `CPU_LEAST_STATES` in
    half of it.

    Raises ValueError if more was asked for than the machine has.
    """
    if asked is not None:
        if device.type == "cpu" and asked > (most := physical_memory()):
            raise ValueError(
                f"'--kv-memory' must be at most {most / GIB:.1f}, all of this machine's memory in "
                f"GiB, got {asked / GIB:g}: lower it."
            )
        return asked
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return max(0, free - int(total * (1 - share)))
    default = CPU_DEFAULT * dtype.itemsize // torch.float32.itemsize  # for the same tokens
    least = max(CPU_LEAST_TOKENS * bytes_per_token, 2 * CPU_LEAST_STATES * bytes_per_state)
    return min(max(default, least), int(free_memory() * CPU_SHARE))


def physical_memory() -> int:
    """Bytes that this container may have, free or not: the cache takes pages only as it fills."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = group_memory()
    return whole if group is None else min(whole, group.limit)


def free_memory() -> int:
    """Bytes of physical memory that are free now, for this container."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = group_memory()
    return free if group is None else min(free, group.free)


def plan_kv(
    *,
    budget: int,
    bytes_per_block: int,
    block_size: int,
    context: int,
    asked: int | None,
    windows: tuple[int, ...] = (0,),
    num_ahead: int = 1,
) -> tuple[int, int]:
    """(num_blocks, max_model_len) for a KV budget in bytes.

    `windows` are those of the groups of layers, each of which has blocks of its own for a sequence,
    and `num_ahead` the tokens of one sequence that may be computed at once (`EngineConfig`).
    `context` is the model's own limit, `asked` the operator's `--max-model-len`. What was asked for
    is kept or refused; a context nobody asked for shrinks to what the memory holds.

    Raises ValueError if what was asked for is more than the model or the memory allows.
    """
    if asked is not None and asked > context:
        raise ValueError(f"'--max-model-len' {asked} is beyond the model's context of {context}.")
    num_blocks = budget // bytes_per_block

    def blocks_of(num_tokens: int) -> int:
        return sum([most_blocks(window, num_tokens, block_size, num_ahead) for window in windows])

    room = bisect_right(range(1, context + 1), num_blocks, key=blocks_of)
    if asked is not None and asked > room:
        needed = blocks_of(asked) * bytes_per_block / GIB
        raise ValueError(
            f"'--max-model-len' {asked} needs {needed:.2f} GiB of KV cache, there are "
            f"{budget / GIB:.2f}: lower it or raise '--kv-memory'."
        )
    max_model_len = asked or room
    if max_model_len < 2:
        raise ValueError(
            f"'--kv-memory': {budget / GIB:.6f} GiB hold no KV block of {bytes_per_block} bytes: "
            "raise it."
        )
    return num_blocks, max_model_len


def plan_states(*, budget: int, bytes_per_state: int, max_num_seqs: int) -> int:
    """How many states there are: one for each sequence that may run and twice as many snapshots,
    but no more than fit into half of a KV budget in bytes. Fewer sequences run at once if there are
    fewer. 0 for a model that keeps none.

    Raises ValueError if the budget does not even hold two.
    """
    if not bytes_per_state:
        return 0
    room = budget // 2 // bytes_per_state
    if room < 2:
        raise ValueError(
            f"'--kv-memory': a sequence's state takes {bytes_per_state / GIB:.3f} GiB, and half of "
            f"{budget / GIB:.3f} GiB must hold two: raise it."
        )
    return min(room, max(2, 3 * max_num_seqs))

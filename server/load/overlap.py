"""Whether an engine runs ahead of its device, and what it then needs: a part of the composition.

On a GPU it does, with a CUDA graph for each decode step, if attention never asks the host how long
a sequence is. On a CPU nothing is gained by it; `on` runs the same loop there, for tests.
"""

import torch

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.distributed.leader import ONE_RANK, RankGroup
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.run_ahead.cuda_graphs import choose_capture
from thirdeye.server.engine.run_ahead.cuda_stream import CpuStream, CudaStream, DeviceStream
from thirdeye.server.engine.run_ahead.launcher import DeviceGuesses, Launcher

SCRAP_BLOCKS = 1  # of the KV cache, behind those that the scheduler knows


def runs_ahead(
    choice: str,
    device: torch.device,
    backend: AttentionBackend,
    num_ranks: int = 1,
) -> bool:
    """`choice` is auto, on or off. Raises ValueError where `on` cannot be."""
    reason = _why_not(device, backend)
    if choice == "on" and reason:
        raise ValueError(f"'--cuda-graphs' on is not possible {reason}; use '--cuda-graphs off'.")
    is_usual = device.type == "cuda" and num_ranks == 1  # several have not been tried on GPUs yet
    return choice == "on" or (choice == "auto" and is_usual and not reason)


def _why_not(device: torch.device, backend: AttentionBackend) -> str:
    if device.type == "cuda" and not isinstance(backend, TritonAttention):
        return f"with {type(backend).__name__}, which reads lengths on the host"
    return ""


def num_state_rows(num_states: int, *, is_ahead: bool) -> int:
    """Of a cache of states, of which the scheduler knows so many: one more is scrap."""
    return num_states + 1 if is_ahead and num_states else num_states


def make_launcher(
    model: Transformer,
    kv_cache: KVCache,
    config: EngineConfig,
    device: torch.device,
    rank_group: RankGroup = ONE_RANK,
    rank_timeout: float | None = None,
    guesses: DeviceGuesses | None = None,
) -> Launcher:
    """A launcher that has captured what is usual, on all ranks."""
    longest = config.max_model_len
    launcher = build_launcher(
        model, kv_cache, config, device, longest, rank_group, rank_timeout, guesses
    )
    launcher.prepare()
    return launcher


def build_launcher(
    model: Transformer,
    kv_cache: KVCache,
    config: EngineConfig,
    device: torch.device,
    max_model_len: int,
    rank_group: RankGroup = ONE_RANK,
    rank_timeout: float | None = None,
    guesses: DeviceGuesses | None = None,
) -> Launcher:
    """`kv_cache` has `SCRAP_BLOCKS` more than `config.num_blocks`, and `num_state_rows` of states.
    The device's block tables hold sequences of `max_model_len`: a trial's own are shorter than
    those that are served. With other ranks a step may take `rank_timeout` seconds."""
    assert kv_cache.num_blocks == config.num_blocks + SCRAP_BLOCKS
    return Launcher(
        lambda batch: model.logits_as_computed(batch, kv_cache),
        config,
        model.config.vocab_size,
        device,
        choose_capture(device),
        choose_stream(device, None if rank_group.is_alone else rank_timeout),
        max_model_len,
        model.look_up(),
        lambda own: rank_group.share_loop(own, device),
        guesses,
    )


def choose_stream(device: torch.device, timeout: float | None = None) -> DeviceStream:
    return CudaStream(timeout) if device.type == "cuda" else CpuStream()

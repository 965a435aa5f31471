"""Whether an engine runs ahead of its device, and what it then needs: a part of the composition.

On a GPU it does, with a CUDA graph for each decode step, if attention never asks the host how long
a sequence is. On a CPU nothing is gained by it; `on` runs the same loop there, for tests.
"""

import torch

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.run_ahead.cuda_graphs import CudaCapture, rerun
from thirdeye.server.engine.run_ahead.cuda_stream import CpuStream, CudaStream
from thirdeye.server.engine.run_ahead.launcher import Launcher

SCRAP_BLOCKS = 1  # of the KV cache, behind those that the scheduler knows


def runs_ahead(
    choice: str,
    device: torch.device,
    backend: AttentionBackend,
    num_ranks: int = 1,
) -> bool:
    """`choice` is auto, on or off. Raises ValueError where `on` cannot be."""
    reason = _why_not(device, backend, num_ranks)
    if choice == "on" and reason:
        raise ValueError(f"'--cuda-graphs' on is not possible {reason}; use '--cuda-graphs off'.")
    return choice == "on" or (choice == "auto" and device.type == "cuda" and not reason)


def _why_not(device: torch.device, backend: AttentionBackend, num_ranks: int) -> str:
    if num_ranks > 1:
        return "with '--tensor-parallel', whose ranks are told each step by messages"
    if device.type == "cuda" and not isinstance(backend, TritonAttention):
        return f"with {type(backend).__name__}, which reads lengths on the host"
    return ""


def num_state_rows(num_states: int, *, is_ahead: bool) -> int:
    """Of a cache of states, of which the scheduler knows so many: one more is scrap."""
    return num_states + 1 if is_ahead and num_states else num_states


def make_launcher(
    model: Transformer, kv_cache: KVCache, config: EngineConfig, device: torch.device
) -> Launcher:
    """A launcher that has captured what is usual."""
    launcher = build_launcher(model, kv_cache, config, device, config.max_model_len)
    launcher.prepare()
    return launcher


def build_launcher(
    model: Transformer,
    kv_cache: KVCache,
    config: EngineConfig,
    device: torch.device,
    max_model_len: int,
) -> Launcher:
    """`kv_cache` has `SCRAP_BLOCKS` more than `config.num_blocks`, and `num_state_rows` of states.
    The device's block tables hold sequences of `max_model_len`: a trial's own are shorter than
    those that are served."""
    assert kv_cache.num_blocks == config.num_blocks + SCRAP_BLOCKS
    is_cuda = device.type == "cuda"
    return Launcher(
        lambda batch: model.logits_as_computed(batch, kv_cache),
        config,
        model.config.vocab_size,
        device,
        CudaCapture(device) if is_cuda else rerun,
        CudaStream() if is_cuda else CpuStream(),
        max_model_len,
        model.look_up(),
    )

"""How much memory a model will take, said before it is loaded, and how much there is.

Upper bounds from the files' metadata: the weights in the form they are served in, the whole KV
cache, and what a process has besides. The cache is asked for as it is counted here.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.stored import MULTIPLIED
from thirdeye.model.memory_estimate import MemoryEstimate, memory_estimates
from thirdeye.server.control_groups import PROC, group_memory
from thirdeye.server.launch.opened_model import OpenedModel, model_info
from thirdeye.server.launch.several.model_specs import ModelsUnclear
from thirdeye.server.load.drafting.draft_checkpoint import open_draft
from thirdeye.server.settings.engine_settings import GIB
from thirdeye.server.settings.settings import Settings
from thirdeye.weights.architectures.common.guessing_head import head_config

PROCESS_BYTES = 450 << 20  # an engine without a model: libraries, tokenizer, a step's tensors
GPU_BYTES = 1536 << 20  # CUDA's context and a step's tensors
SHARE_OF_FREE = 0.8  # the rest is the API's and other programs'
KV_BYTES_FLOAT32 = 4 * GIB // 5  # the default of one model, in float16 half of it
LEAST_TOKENS = 4096
NVIDIA = Path("/dev/nvidiactl")
MEMINFO = Path("/proc/meminfo")


def is_on_gpu(settings: Settings) -> bool:
    device = settings.placement.device
    return device.startswith("cuda") or (device == "auto" and NVIDIA.exists())


def with_kv_memory(settings: Settings, config: ModelConfig) -> Settings:
    """The same with a size of the cache. Raises `ModelsUnclear` where nobody but the operator can
    say it."""
    if settings.cache.kv_memory is not None:
        return settings
    if is_on_gpu(settings):
        raise ModelsUnclear("'--kv-memory' must be given where several models share a GPU.")
    row = _rows(settings, config)[0]
    is_quantized = settings.placement.quantize not in ("none",)
    default = KV_BYTES_FLOAT32 // 2 if is_quantized else KV_BYTES_FLOAT32
    num_bytes = max(default, LEAST_TOKENS * row.kv_per_token)
    return replace(settings, cache=replace(settings.cache, kv_memory=num_bytes / GIB))


def needed_bytes(settings: Settings, opened: OpenedModel) -> int:
    """All that one model takes while it is loaded, of all its ranks together; its settings say how
    large the cache is."""
    ranks, guesses = settings.placement.tensor_parallel, settings.speculation
    kv = (settings.cache.kv_memory_bytes or 0) * ranks
    info = opened.info
    weights = _weights(settings, opened.config, info.tensor_format, info.num_bytes)
    if guesses.draft is not None:
        own = settings.placement
        if guesses.draft_quantize != "same":
            own = replace(own, quantize=guesses.draft_quantize)
        draft = open_draft(guesses.draft)
        info = model_info(draft)
        as_draft = replace(settings, placement=own)
        weights += _weights(as_draft, draft.config, info.tensor_format, info.num_bytes)
    if guesses.speculation == "mtp":
        weights += max(row.weights for row in _rows(settings, head_config(opened.config)))
    besides = GPU_BYTES if is_on_gpu(settings) else PROCESS_BYTES
    return weights + kv + besides * ranks


def _weights(settings: Settings, config: ModelConfig, tensor_format: str, num_bytes: int) -> int:
    """At most, in the form that these settings ask for; of a file with so many bytes of tensors,
    most of them in this format."""
    weights = max(row.weights for row in _rows(settings, config))
    if settings.placement.quantize in ("auto", "stored") and tensor_format in MULTIPLIED:
        weights = max(weights, num_bytes + config.vocab_size * config.hidden_size * 4)
    return weights


def _rows(settings: Settings, config: ModelConfig) -> list[MemoryEstimate]:
    """The estimates of the forms that the weights may get: the most that `auto` can mean."""
    where = "GPU" if is_on_gpu(settings) else "CPU"
    asked = settings.placement.quantize
    kinds = {"none"} if asked == "none" or (asked == "auto" and where == "GPU") else {"int8"}
    if asked in ("int4", "fp8"):
        kinds = {asked}
    rows = [row for row in memory_estimates(config) if row.device.startswith(where)]
    found = [row for row in rows if row.quantize in kinds]
    if where == "GPU" and settings.placement.dtype == "float32":
        found = [replace(row, weights=2 * row.weights) for row in found]
    # Blocks of 32 with a scale each are a little larger than rows with one.
    return [replace(row, weights=row.weights * 9 // 8) for row in found] or rows


def memory_bound(settings: Iterable[Settings], asked: float | None) -> int:
    """Bytes for all models together. Raises `ModelsUnclear` where it has to be said."""
    if asked is not None:
        return int(asked * GIB)
    if any(map(is_on_gpu, settings)):
        raise ModelsUnclear("'--memory' must be given where several models share a GPU.")
    return int(free_memory() * SHARE_OF_FREE)


def free_memory(meminfo: Path = MEMINFO, proc: Path = PROC, root: Path = Path("/")) -> int:
    """Bytes that programs may still take: of the machine, and of the container."""
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = group_memory(proc, root)
    return free if group is None else min(free, group.free)

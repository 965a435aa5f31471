"""What the engine's process is told: plain data that crosses as msgpack; the child loads the model.

The API process writes a recipe from the settings and a glance at the checkpoint's metadata; it
never imports torch. The child reads it in `server/load/load_engine.py`.
"""

from msgspec import Struct

from thirdeye.server.engine.interface.engine_config import Admission


class EngineRecipe(Struct, frozen=True, kw_only=True):
    """One engine to build. `None` means: decide from the checkpoint and the machine."""

    model_path: str
    eos_token_ids: list[int]
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "auto"
    attention: str = "auto"
    cuda_graphs: str = "auto"
    native_library: str = ""  # the compiled kernels' file, which may not be there yet; empty: none
    threads: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None
    block_size: int = 16
    kv_memory_bytes: int | None = None
    kv_dtype: str = "auto"
    gpu_memory_utilization: float = 0.9  # of the card, to all that the engine needs
    enable_prefix_caching: bool = True
    admission: Admission = Admission.PREEMPT
    queue_timeout: float = 0.0  # seconds, 0 is none
    request_timeout: float = 0.0
    num_draft_tokens: int = 0
    max_tokens_with_drafts: int = 16
    deterministic: bool = False
    tensor_parallel: int = 1  # ranks
    rank_timeout: float = 60.0  # seconds a rank waits for the others

"""Every setting of the server, declared once: a flag, a THIRDEYE_* variable and a default each.

`thirdeye serve --max-num-seqs 8` and `THIRDEYE_MAX_NUM_SEQS=8 thirdeye serve` say the same; a flag
wins, and a variable holds several values with commas between them. No other file of `server/` reads
the environment. What comes out is frozen.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from thirdeye.model.native.build import COMPILERS
from thirdeye.server.api.http.api_config import MAX_N
from thirdeye.server.api.requests.fields import MAX_STOPS
from thirdeye.server.engine.interface.engine_config import Admission


class Dtype(StrEnum):
    AUTO = "auto"  # float32 on a CPU, bfloat16 on a GPU
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Quantize(StrEnum):
    AUTO = "auto"  # int8 on a CPU that has the instructions for it, else none
    NONE = "none"  # quantized checkpoints are dequantized to the dtype
    INT8 = "int8"  # CPU: weights and activations in 8 bits, sums exact; GPU: weights alone
    INT4 = "int4"  # weights in 4 bits by groups of 128, the head's in 8
    FP8 = "fp8"  # 8-bit floats


class CudaGraphs(StrEnum):
    AUTO = "auto"  # on a GPU whose attention allows it
    ON = "on"  # also on a CPU, where it is the same loop without graphs
    OFF = "off"


class Native(StrEnum):
    AUTO = "auto"  # kernels in C, where the processor has AVX-512 and there is a compiler
    OFF = "off"


class KVDtype(StrEnum):
    AUTO = "auto"  # as the model; float16 beside quantized weights on a CPU
    FLOAT32 = "float32"
    FLOAT16 = "float16"  # half the memory and the reading, all sums still in float32
    FP8 = "fp8"  # 8-bit floats, a scale for each head of each token; on a GPU


class Attention(StrEnum):
    AUTO = "auto"  # native on a CPU, or blocked where nothing is compiled; triton on a GPU
    NATIVE = "native"
    BLOCKED = "blocked"
    SDPA = "sdpa"
    TRITON = "triton"
    FLASHINFER = "flashinfer"  # its fa2 kernels: optional, see docs/gpu.md
    REFERENCE = "reference"


class Speculation(StrEnum):
    OFF = "off"
    NGRAM = "ngram"  # guess from the text itself; the answers stay the same


class EngineKind(StrEnum):
    PROCESS = "process"
    THREAD = "thread"


def split_at_commas(value: object) -> object:
    """The text of a variable as a list; flags come as one."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def keys_in(file: Path) -> list[str]:
    """One a line; # starts a comment. Raises OSError."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def check_key_file(file: Path) -> Path:
    """A file without a key would leave the server open to all."""
    try:
        has_keys = bool(keys_in(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise PydanticCustomError(
            "unreadable", "Cannot be read ({reason})", {"reason": reason}
        ) from None
    if not has_keys:
        raise PydanticCustomError("no_key", "Holds no key: one a line, please")
    return file


Names = Annotated[
    list[Annotated[str, Field(min_length=1)]], NoDecode, BeforeValidator(split_at_commas)
]
Origins = Annotated[
    list[Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s]+)$")]],
    NoDecode,
    BeforeValidator(split_at_commas),
]
Keys = Annotated[
    list[Annotated[SecretStr, Field(min_length=1)]], NoDecode, BeforeValidator(split_at_commas)
]


class Settings(BaseSettings):
    """What `thirdeye serve` can be told. Sizes are in tokens, times in seconds, memory in GiB."""

    model_config = SettingsConfigDict(
        env_prefix="THIRDEYE_", frozen=True, extra="forbid", allow_inf_nan=False
    )

    model: str | None = None
    yes: bool = False
    served_model_name: Names = []
    chat_template: Path | None = None

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    root_path: str = Field("", pattern=r"^(/.*[^/])?$")
    api_key: Keys = []
    api_key_file: Annotated[Path, AfterValidator(check_key_file)] | None = None
    cors_origin: Origins = []
    lenient: bool = False
    max_n: int = Field(MAX_N, ge=1, le=MAX_N)
    max_stop: int = Field(4, ge=1, le=MAX_STOPS)
    requests_per_minute: int = Field(0, ge=0)
    tokens_per_minute: int = Field(0, ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_timeout: float = Field(30.0, ge=0)
    sse_ping: float = Field(15.0, ge=0)
    send_timeout: float = Field(30.0, gt=0)
    step_timeout: float = Field(300.0, ge=0)

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: Dtype = Dtype.AUTO
    quantize: Quantize = Quantize.AUTO
    attention: Attention = Attention.AUTO
    cuda_graphs: CudaGraphs = CudaGraphs.AUTO
    native: Native = Native.AUTO
    threads: int | None = Field(None, ge=1)
    engine: EngineKind = EngineKind.PROCESS
    deterministic: bool = False
    tensor_parallel: int = Field(1, ge=1, le=64)

    max_model_len: int | None = Field(None, ge=2)
    max_num_seqs: int = Field(64, ge=1, le=4096)
    max_num_batched_tokens: int | None = Field(None, ge=1)
    kv_memory: float | None = Field(None, gt=0)
    kv_dtype: KVDtype = KVDtype.AUTO
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    prefix_caching: bool = True
    admission: Admission = Admission.PREEMPT
    queue_timeout: float = Field(30.0, ge=0)
    request_timeout: float = Field(600.0, ge=0)
    speculation: Speculation = Speculation.NGRAM
    num_draft_tokens: int = Field(15, ge=1, le=64)
    max_tokens_with_drafts: int = Field(16, ge=1)

    @property
    def kv_memory_bytes(self) -> int | None:
        return None if self.kv_memory is None else int(self.kv_memory * (1 << 30))

    @property
    def max_draft_tokens(self) -> int:
        """Guesses for one sequence in one step; 0 without speculation."""
        return self.num_draft_tokens if self.speculation is Speculation.NGRAM else 0

    def api_keys(self) -> list[str]:
        """Keys from flags, the environment and the key file."""
        keys = [key.get_secret_value() for key in self.api_key]
        return keys + (keys_in(self.api_key_file) if self.api_key_file else [])


def compilers() -> tuple[str, ...]:
    """C compilers to look for: what $CC says, as everywhere, and the usual names."""
    chosen = os.environ.get("CC")  # noqa: TID251 (the one place that may)
    return (chosen,) if chosen else COMPILERS

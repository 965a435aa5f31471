"""The settings of the engine: these groups cross to its process as they are, in `EngineRecipe`.

Sizes are in tokens, times in seconds, memory in GiB. `None` means: decided from the checkpoint and
the machine.
"""

from dataclasses import dataclass
from typing import ClassVar

from thirdeye.server.settings.setting import setting

GIB = 1 << 30
MOST_GIB = 100_000  # more is a slip of the pen, and overflows
QUANTIZATIONS = {
    "auto": "on a CPU stored, or int8 without our kernels; else none",
    "none": "quantized checkpoints are dequantized to the dtype",
    "stored": "on a CPU: a GGUF's own blocks, other weights as int8",
    "q8_0": "on a CPU: rounded to blocks of 32 with a scale each",
    "q4_0": "the same with 4 bits, the head in 8",
    "q4_k": "the same, finer scales and minimums, blocks of 256",
    "int8": "on a CPU weights and activations, sums exact; on a GPU weights alone",
    "int4": "on a GPU: groups of 128, the head in 8 bits",
    "fp8": "on a GPU: 8-bit floats",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSettings:
    """Where the model runs, and in which numbers."""

    title: ClassVar[str] = "Device and precision"

    device: str = setting(
        "auto",
        "Where the model runs: auto, cpu, cuda, cuda:1",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        unit="NAME",
        is_common=True,
    )
    dtype: str = setting(
        "auto",
        "Data type of the model",
        choices={
            "auto": "float32 on a CPU, bfloat16 on a GPU",
            "float32": "",
            "bfloat16": "",
            "float16": "",
        },
        is_common=True,
    )
    quantize: str = setting(
        "auto",
        "Weights in fewer bits",
        choices=QUANTIZATIONS,
        is_common=True,
    )
    deterministic: bool = setting(False, "Same bits in any batch, on a GPU too (slower there)")
    tensor_parallel: int = setting(
        1, "GPUs (on a CPU: processes) that share the model", at_least=1, at_most=64
    )
    rank_timeout: float = setting(
        60.0, "How long ranks wait for each other", above=0, unit="SECONDS"
    )
    remote_ranks: int = setting(
        0, "How many of these are on other hosts: `thirdeye rank`", at_least=0, at_most=63
    )
    rank_address: str | None = setting(
        None, "Where they join, at an address of this host that they reach", unit="HOST:PORT"
    )
    rank_secret_file: str | None = setting(
        None, "What they must know to join: 16 bytes or more", unit="FILE"
    )
    threads: int | None = setting(
        None, "The engine's CPU threads", at_least=1, shown="one a core, within a container's quota"
    )
    pin_threads: bool = setting(False, "Keep each of these on a core of its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """Which code computes."""

    title: ClassVar[str] = "Kernels"

    attention: str = setting(
        "auto",
        "Attention backend",
        choices={
            "auto": "native on a CPU, blocked where nothing is compiled; triton on a GPU",
            "native": "ours, in C",
            "blocked": "ours, in torch",
            "triton": "ours, on a GPU",
            "flashinfer": "its fa2 kernels: optional, see [gpu.md](gpu.md)",
            "sdpa": "torch's own",
            "reference": "as a textbook writes it, slow",
        },
    )
    cuda_graphs: str = setting(
        "auto",
        "Decode by graphs, a step ahead",
        choices={
            "auto": "on a GPU whose attention allows it",
            "on": "also with several ranks; and on a CPU, where it is the same loop without graphs",
            "off": "",
        },
        shown="auto: on a GPU",
    )
    native: str = setting(
        "auto",
        "Kernels compiled on this machine",
        choices={
            "auto": "where the processor has AVX2, or is a newer ARM, and there is a compiler",
            "off": "",
        },
    )
    isa: str = setting(
        "auto",
        "Instruction set that these are compiled for: answers are the same",
        choices={
            "auto": "the quickest that the processor has",
            "avx512vnni": "Intel's servers since 2019, AMD since Zen 4",
            "avxvnni": "Intel's laptops since 2021",
            "avx2": "with FMA and F16C: nearly all since 2015",
            "i8mm": "ARM with products of 8-bit matrices, on Linux",
            "neon": "ARM with dot products, on Linux",
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """Where keys and values of the tokens are kept."""

    title: ClassVar[str] = "KV cache"

    kv_memory: float | None = setting(
        None,
        "Memory for keys and values, of each rank",
        above=0,
        at_most=MOST_GIB,
        unit="GIB",
        shown="CPU: 0.8, in float16 0.4, in int8 0.2; GPU: the rest",
        is_common=True,
    )
    kv_dtype: str = setting(
        "auto",
        "Data type of keys and values",
        choices={
            "auto": "as the model; float16 beside quantized weights on a CPU",
            "float32": "",
            "float16": "half the memory and the reading, all sums still in float32",
            "int8": "on a CPU: 8-bit integers, a scale for each head of each token",
            "fp8": "on a GPU: 8-bit floats, likewise",
        },
    )
    gpu_memory_utilization: float = setting(
        0.9, "Share of each GPU's memory to use in all", above=0, at_most=1, unit="SHARE"
    )
    prefix_caching: bool = setting(True, "Reuse the beginnings that prompts share")

    @property
    def kv_memory_bytes(self) -> int | None:
        return None if self.kv_memory is None else int(self.kv_memory * GIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingSettings:
    """Who is computed when, and for how long."""

    title: ClassVar[str] = "Scheduling"

    max_model_len: int | None = setting(
        None,
        "Tokens of prompt and answer together",
        at_least=2,
        shown="the model's",
        is_common=True,
    )
    max_num_seqs: int = setting(64, "Requests in a batch", at_least=1, at_most=4096, is_common=True)
    max_num_batched_tokens: int | None = setting(
        None, "Tokens in one step", at_least=1, shown="CPU: what takes 0.25 s; GPU: 2048"
    )
    admission: str = setting(
        "preempt",
        "What must be free before a request is let in",
        choices={
            "preempt": "room for its prompt: some may be thrown out later, and computed again",
            "reserve": "room up to its max_tokens: fewer run at once, none is ever thrown out",
        },
    )
    queue_timeout: float = setting(
        30.0, "How long a request may wait for its turn, 0: any time", at_least=0, unit="SECONDS"
    )
    request_timeout: float = setting(
        600.0, "How long a request may take in all, 0: any time", at_least=0, unit="SECONDS"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationSettings:
    """Guessing the next tokens; the answers stay the same."""

    title: ClassVar[str] = "Speculation"

    speculation: str = setting(
        "auto",
        "Guess ahead",
        choices={
            "auto": "ngram; where steps are launched ahead, as on a GPU, `--draft` alone",
            "ngram": "from the text itself (prompt lookup), and by `--draft`",
            "mtp": "and by the head of the model that was trained for it",
            "off": "",
        },
    )
    draft: str | None = setting(
        None,
        "A smaller model of the same vocabulary that guesses too, named as the model is",
        unit="MODEL",
    )
    draft_quantize: str = setting(
        "same",
        "Its weights in fewer bits",
        choices={"same": "as `--quantize` says"} | QUANTIZATIONS,
    )
    num_draft_tokens: int = setting(
        15, "Most guesses for a request in a step", at_least=1, at_most=64
    )
    max_tokens_with_drafts: int = setting(
        16, "Guess only in steps of at most so many tokens", at_least=1
    )

    @property
    def max_draft_tokens(self) -> int:
        """Guesses for one sequence in one step; 0 without speculation."""
        return 0 if self.speculation == "off" else self.num_draft_tokens

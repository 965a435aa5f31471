"""What is asked of `thirdeye bench engine`, and what it answers: numbers, and lines to read."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, where."""

    shape: str
    batches: Sequence[int]
    contexts: Sequence[int]
    steps: int  # timed in each cell of the grid
    workload: int  # sequences of the nano-vllm workload, 0: left out
    device: str
    dtype: str
    attention: str
    bandwidth: float | None  # bytes a second
    cuda_graphs: str = "auto"
    quantize: str = "none"
    kv_dtype: str = "auto"
    prefills: Sequence[int] = ()  # lengths of lone prompts
    is_deterministic: bool = False  # the same bits in any batch
    is_profiled: bool = False  # cells on a GPU say how long it is idle


@dataclass(frozen=True, slots=True)
class Cell:
    """Decode steps of one batch size, around one context length."""

    batch: int
    context: int
    step_ms: float  # median
    tokens_per_second: float
    floor_ms: float
    share_of_floor: float  # 1 is as fast as the memory allows
    gpu_idle_share: float | None  # of the time, no kernel runs; None: not profiled

    def __str__(self) -> str:
        idle = self.gpu_idle_share
        return (
            f"batch {self.batch:4}  context {self.context:6}  {self.step_ms:9.3f} ms a step"
            f"  {self.tokens_per_second:10,.1f} tok/s"
            f"  {self.share_of_floor:6.1%} of what the memory allows"
            + ("" if idle is None else f", GPU idle {idle:.1%}")
        )


@dataclass(frozen=True, slots=True)
class Prefill:
    """One prompt alone, in one step."""

    tokens: int
    step_ms: float
    tokens_per_second: float
    operations_per_second: float
    share_of_matmul: float  # of the rate that a large matrix product reaches here

    def __str__(self) -> str:
        return (
            f"prompt {self.tokens:6}  {self.step_ms:9.3f} ms  {self.tokens_per_second:10,.1f} tok/s"
            f"  {self.operations_per_second / 1e12:.2f} TFLOP/s,"
            f" {self.share_of_matmul:.1%} of a large matrix product"
        )


@dataclass(frozen=True, slots=True)
class Workload:
    num_sequences: int
    prompt_tokens: int
    output_tokens: int
    seconds: float
    output_tokens_per_second: float
    floor_seconds: float  # of decoding alone, with all sequences admitted at once
    share_of_floor: float

    def __str__(self) -> str:
        return (
            f"nano-vllm workload: {self.output_tokens:,} tokens in {self.seconds:.2f} s, "
            f"{self.output_tokens_per_second:,.1f} tok/s, "
            f"{self.share_of_floor:.1%} of what the memory allows"
        )

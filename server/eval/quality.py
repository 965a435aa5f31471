"""How well weights in fewer bits still read: perplexity, and divergence from fp32 of the same file.

A text is read in windows, each from an empty cache, in steps of a few tokens: what a step's size
is changes no bit on a CPU. Weights, kernels and cache are those that `thirdeye serve` would take.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.linear.choose_method import choose_quantization
from thirdeye.model.native.library import Library
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import choose_kv_dtype, make_kv_cache
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE
from thirdeye.server.load.engine_info import linear_methods
from thirdeye.server.load.load_engine import load_model
from thirdeye.weights.checkpoint import Checkpoint

STEP = 32  # tokens: their logits are what takes memory
EXACT = "none"  # what others are held against
TEXT = Path(__file__).with_name("moby_dick.txt")  # 1851, in the public domain


@dataclass(slots=True)
class Quality:
    """Of one way to keep the weights, over all tokens but a window's first."""

    quantize: str  # as asked for
    linear: str  # what multiplied
    surprise: list[Tensor] = field(default_factory=list)  # -log p of the text's token, a step each
    divergence: list[Tensor] = field(default_factory=list)  # KL(fp32 || this), [tokens]
    agrees: list[Tensor] = field(default_factory=list)  # whether the likeliest token is fp32's

    @property
    def perplexity(self) -> float:
        return math.exp(torch.cat(self.surprise).mean().item())

    @property
    def mean_kl(self) -> float:
        return torch.cat(self.divergence).mean().item()

    @property
    def p99_kl(self) -> float:
        """The divergence that one token of a hundred exceeds."""
        return torch.cat(self.divergence).quantile(0.99).item()

    @property
    def top1(self) -> float:
        return torch.cat(self.agrees).double().mean().item()


class Reader:
    """A model that reads windows of a text."""

    def __init__(
        self, checkpoint: Checkpoint, native: Library | None, quantize: str, kv_dtype: str = "auto"
    ) -> None:
        where = Placement(torch.float32, torch.device("cpu"), native=native)
        where = replace(where, quantize=choose_quantization(quantize, where))
        self._kv_dtype = choose_kv_dtype(
            kv_dtype, "auto", where.dtype, where.device, where.quantize
        )
        self.model: Transformer = load_model(checkpoint, "auto", where, lambda *_: None)
        self.quality = Quality(quantize, "+".join(linear_methods(self.model)))

    def make_cache(self, num_blocks: int) -> KVCache:
        """As a server would have it, empty."""
        cache: KVCache = make_kv_cache(
            self.model.config,
            num_blocks,
            BLOCK_SIZE,
            self._kv_dtype,
            torch.device("cpu"),
            num_states=1,
        )
        return cache

    def read(self, token_ids: Sequence[int]) -> Iterator[Tensor]:
        """The logits at each token, [up to STEP, vocab_size] float32 a step."""
        num_blocks = -(-len(token_ids) // BLOCK_SIZE)
        cache = self.make_cache(num_blocks)
        for start in range(0, len(token_ids), STEP):
            yield self.model(batch_of(token_ids[start : start + STEP], start, num_blocks), cache)


def batch_of(token_ids: Sequence[int], past: int, num_blocks: int) -> ForwardBatch:
    """The next tokens of the one sequence there is, whose blocks lie in order; all logits."""
    stop = past + len(token_ids)
    positions = torch.arange(past, stop)
    return ForwardBatch(
        input_ids=torch.tensor(token_ids),
        positions=positions,
        slot_mapping=positions,
        query_start_loc=torch.tensor([0, len(token_ids)], dtype=torch.int32),
        seq_lens=torch.tensor([stop], dtype=torch.int32),
        block_table=torch.arange(num_blocks, dtype=torch.int32)[None],
        logits_indices=torch.arange(len(token_ids)),
    )


@torch.inference_mode()
def judge(
    checkpoint: Checkpoint,
    text: str,
    quantizes: Sequence[str],
    *,
    native: Library | None,
    window: int,
    is_compared: bool,
    kv_dtype: str = "auto",
    against: Checkpoint | None = None,
) -> list[Quality]:
    """Each of `quantizes`, on windows of so many tokens of `text`; with `is_compared` against fp32,
    which is loaded too, of the same file or of `against`. Raises ValueError for a format that is
    not there, for a short text, and for files of different vocabularies."""
    measure = against or checkpoint
    if measure.config.vocab_size != checkpoint.config.vocab_size:
        raise ValueError(
            f"both files must have one vocabulary, got {checkpoint.config.vocab_size} and "
            f"{measure.config.vocab_size} tokens."
        )
    token_ids = checkpoint.tokenizer().encode(text)
    window = min(window, checkpoint.config.max_position_embeddings)
    if len(token_ids) < 2:
        raise ValueError(f"the text must have 2 tokens or more, got {len(token_ids)}.")
    readers = [Reader(checkpoint, native, quantize, kv_dtype) for quantize in quantizes]
    exact = Reader(measure, native, EXACT) if is_compared else None
    for start in range(0, len(token_ids) - 1, window):
        part = token_ids[start : start + window]
        steps = zip(
            *(each.read(part) for each in (*readers, *([exact] if exact else []))), strict=True
        )
        for step, logits in enumerate(steps):
            following = part[step * STEP + 1 : (step + 1) * STEP + 1]  # none behind the last
            wanted = torch.tensor(following, dtype=torch.int64)
            logprobs = [row[: len(wanted)].log_softmax(-1) for row in logits]
            for reader, own in zip(readers, logprobs, strict=False):
                note(reader.quality, own, wanted, logprobs[-1] if exact else None)
    return [reader.quality for reader in readers]


def note(quality: Quality, logprobs: Tensor, wanted: Tensor, exact: Tensor | None) -> None:
    """logprobs [n, vocab_size], wanted [n]"""
    quality.surprise.append(F.nll_loss(logprobs, wanted, reduction="none").double())
    if exact is not None:
        kl = F.kl_div(logprobs.double(), exact.double(), reduction="none", log_target=True)
        quality.divergence.append(kl.sum(-1))
        quality.agrees.append(logprobs.argmax(-1) == exact.argmax(-1))

"""A draft model beside the served one: its weights, its part of the memory, its proposer."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import ModelConfig
from thirdeye.model.linear.choose_method import choose_quantization
from thirdeye.model.parameter_counts import parameter_counts
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache, kv_bytes_per_block
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.warmup import warm_up
from thirdeye.server.engine.drafting.draft_model import DraftModel
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE, EngineConfig
from thirdeye.server.engine.sampling.sampler import Sampler
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.resolve import resolve_model
from thirdeye.weights.tokenizers.same_vocabulary import difference

LoadModel = Callable[[Checkpoint, Placement], Transformer]
"""Weights in a transformer; the second is where they go, and in which form."""


@dataclass(frozen=True, slots=True)
class LoadedDraft:
    """A draft model that waits for its memory."""

    checkpoint: Checkpoint
    model: Transformer
    vocab_size: int  # of the served model
    kv_dtype: torch.dtype
    device: torch.device

    def share_of(self, budget: int, target: ModelConfig) -> int:
        """Bytes of a budget for keys and values: as many tokens in it as in the rest."""
        own = kv_bytes_per_block(self.model.config, 1, self.kv_dtype)
        served = kv_bytes_per_block(target, 1, self.kv_dtype)
        return budget * own // (own + served)

    def proposer(self, served: EngineConfig, budget: int, sampler: Sampler) -> DraftModel:
        """Raises ValueError if the budget holds no text."""
        own = self.model.config
        block = kv_bytes_per_block(own, BLOCK_SIZE, self.kv_dtype)
        num_blocks = budget // block
        config = EngineConfig(
            max_model_len=max(
                1,
                min(served.max_model_len, own.max_position_embeddings, num_blocks * BLOCK_SIZE),
            ),
            num_blocks=num_blocks,
            max_num_seqs=served.max_num_seqs,
            max_num_batched_tokens=served.max_num_batched_tokens,
            eos_token_ids=served.eos_token_ids,
            enable_prefix_caching=served.enable_prefix_caching,
        )
        cache = make_kv_cache(own, num_blocks, BLOCK_SIZE, self.kv_dtype, self.device)
        model = AsWide(self.model, self.vocab_size)
        runner = ModelRunner(model, cache, config, self.device, sampler)
        warm_up(runner, config)
        return DraftModel(runner, config)

    def __str__(self) -> str:
        num = parameter_counts(self.model.config).total
        return f"{self.checkpoint.name}, {num / 1e6:,.1f} M parameters"


class AsWide:
    """A model whose logits are those of another vocabulary size: files pad theirs differently."""

    def __init__(self, model: Transformer, vocab_size: int) -> None:
        self._model = model
        self._last = model.config.vocab_size - 1
        self._missing = vocab_size - model.config.vocab_size
        self._vocab_size = vocab_size

    def __call__(self, batch: ForwardBatch, kv_cache: KVCache, /) -> Tensor:
        """Logits [S, vocab_size]."""
        if self._missing > 0:  # ids that it has not learned mean nothing to it
            batch = replace(batch, input_ids=batch.input_ids.clamp(max=self._last))
        logits: Tensor = self._model(batch, kv_cache)
        if self._missing <= 0:
            return logits[:, : self._vocab_size].contiguous()
        return torch.nn.functional.pad(logits, (0, self._missing), value=-torch.inf)

    def with_hidden(self, batch: ForwardBatch, kv_cache: KVCache, /) -> tuple[Tensor, Tensor]:
        return self._model.with_hidden(batch, kv_cache)


def load_draft(
    recipe: EngineRecipe,
    served: Checkpoint,
    where: Placement,
    kv_dtype: torch.dtype,
    load_model: LoadModel,
    *,
    is_ahead: bool,
) -> LoadedDraft | None:
    """The draft model, if one was asked for. Raises ValueError or ModelError with the way out."""
    asked = recipe.speculation
    if asked.draft is None:
        return None
    what = f"'--draft' {asked.draft}"
    if asked.speculation == "off":
        raise ValueError(f"{what} guesses, and '--speculation' off forbids it: leave one out.")
    if recipe.placement.tensor_parallel > 1:
        raise ValueError(f"{what} does not go with '--tensor-parallel': leave one out.")
    if is_ahead:
        raise ValueError(
            f"{what} needs to know a token before it guesses the next, and steps are launched "
            "ahead here: add '--cuda-graphs off'."
        )
    checkpoint = open_checkpoint(resolve_model(asked.draft))
    config = checkpoint.config
    if config.state is not None:
        raise ValueError(
            f"{what}: its layers keep a state, which cannot be cut back to the guesses that were "
            "right. Use a model whose layers all attend, or prompt lookup, without '--draft'."
        )
    if found := difference(served.tokenizer(), checkpoint.tokenizer()):
        raise ValueError(
            f"{what} has another vocabulary than {served.name}: {found}. Use a smaller model of "
            "the same family, or prompt lookup, without '--draft'."
        )
    if asked.draft_quantize != "same":
        where = replace(where, quantize=choose_quantization(asked.draft_quantize, where))
    model = load_model(checkpoint, where)
    return LoadedDraft(checkpoint, model, served.config.vocab_size, kv_dtype, where.device)

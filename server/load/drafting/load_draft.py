"""A draft model beside the served one: its weights, its part of the memory, its proposer."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch, LookUp
from thirdeye.model.config import ModelConfig
from thirdeye.model.linear.choose_method import choose_quantization
from thirdeye.model.parameter_counts import parameter_counts
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache, kv_bytes_per_block
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.warmup import prompt_lengths, warm_up
from thirdeye.server.engine.drafting.draft_ahead import DraftAhead
from thirdeye.server.engine.drafting.draft_model import CATCH_UP, DraftModel
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE, EngineConfig
from thirdeye.server.engine.run_ahead.cuda_graphs import choose_capture
from thirdeye.server.engine.run_ahead.guessing.draft_rounds import DraftRounds, LaunchedSteps
from thirdeye.server.engine.run_ahead.launcher import Launcher
from thirdeye.server.engine.sampling.sampler import Sampler, sample
from thirdeye.server.load.drafting.draft_checkpoint import open_draft
from thirdeye.server.load.drafting.guesser import (
    LoadModel,
    MadeGuesser,
    TriedGuesser,
    cache_config,
)
from thirdeye.server.load.overlap import SCRAP_BLOCKS, choose_stream
from thirdeye.weights.checkpoint import Checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.load import check_described
from thirdeye.weights.tokenizers.same_vocabulary import difference


@dataclass(frozen=True, slots=True)
class LoadedDraft:
    """A draft model that waits for its memory."""

    checkpoint: Checkpoint
    model: Transformer
    vocab_size: int  # of the served model
    kv_dtype: torch.dtype
    device: torch.device
    reads_hidden = False

    def share_of(self, budget: int, target: ModelConfig) -> int:
        own = kv_bytes_per_block(self.model.config, 1, self.kv_dtype)
        served = kv_bytes_per_block(target, 1, self.kv_dtype)
        return budget * own // (own + served)

    def make(self, served: EngineConfig, budget: int, sampler: Sampler) -> MadeGuesser:
        own = self.model.config
        block = kv_bytes_per_block(own, BLOCK_SIZE, self.kv_dtype)
        config = cache_config(served, own, budget // block)
        if not served.steps_ahead:
            cache = make_kv_cache(own, config.num_blocks, BLOCK_SIZE, self.kv_dtype, self.device)
            model = AsWide(self.model, self.vocab_size)
            runner = ModelRunner(model, cache, config, self.device, sampler)
            warm_up(runner, config)
            return MadeGuesser(DraftModel(runner, config))
        launcher, runner = self._launched(config, config.max_model_len, sampler)
        launcher.prepare()
        warm_up(runner, config, prompt_lengths(self.device, CATCH_UP))
        proposer = DraftAhead(LaunchedSteps(launcher, runner), config)
        return MadeGuesser(proposer, DraftRounds(launcher, proposer))

    def _launched(
        self, config: EngineConfig, longest: int, sampler: Sampler = sample
    ) -> tuple[Launcher, ModelRunner]:
        """Steps of one token a text are replayed from graphs, as the served model's are."""
        num_blocks = config.num_blocks + SCRAP_BLOCKS
        cache = make_kv_cache(self.model.config, num_blocks, BLOCK_SIZE, self.kv_dtype, self.device)
        model = AsWide(self.model, self.vocab_size)
        launcher = Launcher(
            lambda batch: model.logits_as_computed(batch, cache),
            config,
            self.vocab_size,
            self.device,
            choose_capture(self.device),
            choose_stream(self.device),
            longest,
            model.look_up(),
        )
        return launcher, ModelRunner(model, cache, config, self.device, sampler)

    def tried(self, sizes: EngineConfig, longest: int) -> TriedGuesser:
        config = cache_config(sizes, self.model.config, 1)
        launcher, _ = self._launched(
            config, min(longest, self.model.config.max_position_embeddings)
        )
        num_bytes = kv_bytes_per_block(self.model.config, BLOCK_SIZE, self.kv_dtype)
        return TriedGuesser((config.num_blocks + SCRAP_BLOCKS) * num_bytes, launcher.prepare)

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
        return self._widen(self._model(self._known(batch), kv_cache))

    def logits_as_computed(self, batch: ForwardBatch, kv_cache: KVCache, /) -> Tensor:
        """The same, of whatever floats."""
        return self._widen(self._model.logits_as_computed(self._known(batch), kv_cache))

    def _known(self, batch: ForwardBatch) -> ForwardBatch:
        """Ids that it has not learned mean nothing to it."""
        if self._missing <= 0:
            return batch
        return replace(batch, input_ids=batch.input_ids.clamp(max=self._last))

    def _widen(self, logits: Tensor) -> Tensor:
        if self._missing <= 0:
            return logits[:, : self._vocab_size].contiguous()
        return torch.nn.functional.pad(logits, (0, self._missing), value=-torch.inf)

    def look_up(self) -> LookUp | None:
        """What kernels may look up of a step's tokens, if it has learned all of these."""
        return None if self._missing > 0 else self._model.look_up()

    def with_hidden(self, batch: ForwardBatch, kv_cache: KVCache, /) -> tuple[Tensor, Tensor]:
        return self._model.with_hidden(batch, kv_cache)


def find_draft(name: str, served: Checkpoint) -> Checkpoint:
    """Raises ValueError or ModelError with the way out."""
    what = f"'--draft' {name}"
    checkpoint = open_draft(name)
    if checkpoint.config.state is not None:
        raise ValueError(
            f"{what}: its layers keep a state, which cannot be cut back to the guesses that were "
            "right. Use a model whose layers all attend, or prompt lookup, without '--draft'."
        )
    if found := difference(served.tokenizer(), checkpoint.tokenizer()):
        raise ValueError(
            f"{what} has another vocabulary than {served.name}: {found}. Use a smaller model of "
            "the same family, or prompt lookup, without '--draft'."
        )
    try:
        check_described(checkpoint)
    except ModelFormatError as error:
        way_out = "use a checkpoint that is whole, or prompt lookup, without '--draft'."
        raise error.and_say(f"It is of {what}: {way_out}") from None
    return checkpoint


def load_draft(
    checkpoint: Checkpoint,
    quantize: str,
    model: Transformer,
    where: Placement,
    kv_dtype: torch.dtype,
    load_model: LoadModel,
) -> LoadedDraft:
    """Beside this model."""
    if quantize != "same":
        where = replace(where, quantize=choose_quantization(quantize, where))
    draft = load_model(checkpoint, where)
    return LoadedDraft(checkpoint, draft, model.config.vocab_size, kv_dtype, where.device)

"""The head of a model that guesses (MTP): its weights, its part of the memory, its proposer."""

from dataclasses import dataclass

import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.warmup import warm_up
from thirdeye.server.engine.drafting.guessing_head import HeadProposer, HeadStep
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE, EngineConfig
from thirdeye.server.engine.sampling.sampler import Sampler
from thirdeye.server.load.drafting.guesser import (
    LoadModel,
    MadeGuesser,
    TriedGuesser,
    cache_config,
)
from thirdeye.weights.checkpoint import Checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.load import WeightSource, check_described


@dataclass(frozen=True, slots=True)
class LoadedHead:
    """A head that waits for its memory."""

    model: Transformer
    kv_dtype: torch.dtype
    device: torch.device
    reads_hidden = True

    def tried(self, sizes: EngineConfig, longest: int) -> TriedGuesser:  # noqa: ARG002
        raise AssertionError("where a head guesses no step is launched ahead")

    def share_of(self, budget: int, target: ModelConfig) -> int:
        own = self._block_bytes()
        served = kv_bytes_per_block(target, BLOCK_SIZE, self.kv_dtype)
        return budget * own // (own + served)

    def _block_bytes(self) -> int:
        """With the hidden state of its last token, in float32."""
        config = self.model.config
        return kv_bytes_per_block(config, BLOCK_SIZE, self.kv_dtype) + 4 * config.hidden_size

    def make(self, served: EngineConfig, budget: int, sampler: Sampler) -> MadeGuesser:
        own = self.model.config
        config = cache_config(served, own, budget // self._block_bytes())
        cache = make_kv_cache(own, config.num_blocks, BLOCK_SIZE, self.kv_dtype, self.device)
        step = HeadStep(self.model, own.hidden_size, self.device)
        runner = ModelRunner(step, cache, config, self.device, sampler)
        warm_up(runner, config)
        return MadeGuesser(HeadProposer(runner, step, config))

    def __str__(self) -> str:
        return "the model's own head"


def find_head(served: Checkpoint) -> WeightSource:
    """Raises ValueError if the checkpoint has none, ModelFormatError if it is not whole."""
    source = served.guessing_head()
    if source is None:
        raise ValueError(
            f"'--speculation' mtp: {served.name} has no head that guesses, or none that is read "
            "(Qwen3-Next, Qwen3.5, GLM-4.5 and DeepSeek V3 have one, where their files kept it): "
            "use 'ngram'."
        )
    try:
        check_described(source)
    except ModelFormatError as error:
        raise error.and_say(
            "It is of the head that guesses, '--speculation' mtp: use 'ngram'."
        ) from None
    return source


def load_head(
    source: WeightSource,
    model: Transformer,
    where: Placement,
    kv_dtype: torch.dtype,
    load_model: LoadModel,
) -> LoadedHead:
    """Beside its model."""
    head = load_model(source, where)
    head.embed_tokens, head.lm_head = model.embed_tokens, model.lm_head  # the same numbers
    return LoadedHead(head, kv_dtype, where.device)

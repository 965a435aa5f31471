"""What guesses beside the served model, as the composition sees it: loaded first, given its memory
when that is known."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from thirdeye.model.config import ModelConfig
from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE, EngineConfig
from thirdeye.server.engine.run_ahead.launcher import DeviceGuesses
from thirdeye.server.engine.sampling.sampler import Sampler
from thirdeye.server.engine.scheduling.speculation.proposer import Proposer
from thirdeye.weights.load import WeightSource

LoadModel = Callable[[WeightSource, Placement], Transformer]
"""Weights in a transformer; the second is where they go, and in which form."""


class TriedGuesser(NamedTuple):
    """What it keeps on a device beside its weights, for a trial to find out."""

    cache: int  # bytes
    capture: Callable[[], None]  # all its graphs


class MadeGuesser(NamedTuple):
    """What the engine asks."""

    proposer: Proposer
    on_device: DeviceGuesses | None = None  # what makes its guesses there


class Guesser(Protocol):
    @property
    def reads_hidden(self) -> bool:
        """Whether it reads the served model's hidden states."""

    def tried(self, sizes: EngineConfig, longest: int) -> "TriedGuesser":
        """Beside a trial of these sizes whose steps are launched ahead, for texts of `longest`."""

    def share_of(self, budget: int, target: ModelConfig) -> int:
        """Bytes of a budget for keys and values: as many tokens in it as in the rest."""

    def make(self, served: EngineConfig, budget: int, sampler: Sampler) -> MadeGuesser:
        """With a cache of so many bytes."""


def cache_config(served: EngineConfig, own: ModelConfig, num_blocks: int) -> EngineConfig:
    """Of a cache beside the served model's. With no block in it no text is guessed for."""
    num_blocks = max(1, num_blocks)
    longest = min(served.max_model_len, own.max_position_embeddings, num_blocks * BLOCK_SIZE)
    return EngineConfig(
        max_model_len=longest,
        num_blocks=num_blocks,
        max_num_seqs=served.max_num_seqs,
        max_num_batched_tokens=served.max_num_batched_tokens,
        eos_token_ids=served.eos_token_ids,
        enable_prefix_caching=served.enable_prefix_caching,
    )

"""The sampler in C, for engines that compute with native kernels: `sample` is its twin."""

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from thirdeye.model.native.library import Library
from thirdeye.model.native.sample import SampleKernel
from thirdeye.server.engine.grammar.bitmask import NO_MASKS, RowMasks
from thirdeye.server.engine.sampling.sampler import DrawParams


class NativeSampler:
    """See `Sampler`. RowMasks are read where they lie, and the noise is made where it is used."""

    def __init__(self, library: Library) -> None:
        self._kernel = SampleKernel(library)

    def __call__(
        self,
        logits: Tensor,
        draw_params: Seq[DrawParams],
        positions: Seq[int],
        masks: RowMasks = NO_MASKS,
    ) -> Tensor:
        return torch.tensor(self.choose(logits, draw_params, positions, masks), dtype=torch.int64)

    def choose(
        self,
        logits: Tensor,
        draw_params: Seq[DrawParams],
        positions: Seq[int],
        masks: RowMasks = NO_MASKS,
    ) -> list[int]:
        """The same, as numbers."""
        assert not masks.rows or 32 * masks.words.shape[1] >= logits.shape[1], masks.words.shape
        addresses = masks.addresses(len(draw_params))
        return self._kernel.choose(
            logits,
            [
                (mask, k.seed, position, k.temperature, k.top_p, -k.log_min_p, k.top_k)
                for mask, position, k in zip(addresses, positions, draw_params, strict=True)
            ],
        )

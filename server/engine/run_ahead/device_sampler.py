"""Logits to tokens on the device, with what it knows of each slot, and how the host reads them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from thirdeye.model.placement import can_fuse
from thirdeye.server.engine.run_ahead.device_state import DeviceState
from thirdeye.server.engine.sampling.logprobs import NUM_TOP, Scores, score_tokens
from thirdeye.server.engine.sampling.philox import uniform
from thirdeye.server.engine.sampling.sampler import Ranking, draw

MAX_WIDTH = 4 + 2 * NUM_TOP


@dataclass(frozen=True, slots=True)
class SamplingMode:
    """What a step does to logits. Without `ranking` every row is greedy, and nothing is drawn."""

    ranking: Ranking | None
    is_penalized: bool = False
    has_logprobs: bool = False
    is_biased: bool = False  # or holds an end back
    is_masked: bool = False
    is_verified: bool = False  # some rows are drafts, and slots go on as far as these are right

    @property
    def has_processors(self) -> bool:
        return self.is_penalized or self.is_biased or self.is_masked


GREEDY_MODE = SamplingMode(None)
DRAWN_MODE = SamplingMode(Ranking(0, is_enough=True, has_floor=False))


class DeviceSampler:
    """Logits to tokens, with what the device knows of each slot: by kernels where there are any."""

    def __init__(self, state: DeviceState) -> None:
        self._state = state
        self._choose: Callable[..., Tensor] | None = None
        self._accept: Callable[..., None] | None = None
        if can_fuse(state.device):
            from thirdeye.model.kernels.accept_drafts import accept_drafts  # noqa: PLC0415
            from thirdeye.model.kernels.choose_tokens import choose_tokens  # noqa: PLC0415

            self._choose, self._accept = choose_tokens, accept_drafts
        self.usual = (GREEDY_MODE,) if self._choose else (GREEDY_MODE, DRAWN_MODE)

    def usual_mode(self, mode: SamplingMode) -> SamplingMode | None:
        """The usual one that does the same: with our kernels rows may be greedy or draw in any
        way."""
        if mode.has_processors or mode.has_logprobs:
            return None
        if mode.is_verified:
            usual = self.usual_mode(replace(mode, is_verified=False))
            return None if usual is None else replace(usual, is_verified=True)
        if self._choose:
            return GREEDY_MODE
        return mode if mode in self.usual else None

    def __call__(
        self,
        logits: Tensor,
        slots: Tensor,
        positions: Tensor,
        mode: SamplingMode,
        *,
        advance: bool = False,
    ) -> Tensor:
        """logits [R, vocab_size] for the tokens at `positions` [R] of `slots` [R] -> int64 [R, W].
        With `advance` they are for the tokens behind these positions, and the slots go on. Where
        drafts are verified the rows are `state`'s, and slots go on behind those that are right.

        Of each row: whether all logits are numbers, the token, which is the slot's newest now, and
        with logprobs its rank, the likeliest tokens, and their logprobs as bits (`read_sampled`).
        """
        state = self._state
        processed = state.mask(logits, slots) if mode.is_masked else logits
        if mode.is_biased:
            processed = state.bias(processed, slots, positions + int(advance))
        if mode.is_penalized:
            processed = state.penalize(processed, slots)
        if self._choose:
            offsets = state.offsets[: len(slots)] if mode.is_verified else None
            chosen = self._choose(processed, state.table, slots, advance=advance, offsets=offsets)
            if mode.has_processors:  # which may have covered what is no number
                chosen[:, 0] &= is_finite(logits)
        else:
            places = positions + int(advance)
            token_ids = self._choose_without_kernels(processed.float(), slots, places, mode)
            chosen = torch.stack([is_finite(logits).long(), token_ids], dim=1)
            if not mode.is_verified:
                state.put_tokens(slots, token_ids)
                if advance:
                    state.advance(slots)
        if mode.is_verified:
            self._verify(slots, positions, chosen)
        if mode.is_penalized:
            state.count_tokens(slots, chosen[:, 1])
        if not mode.has_logprobs:
            return chosen
        return pack_scores(chosen[:, 0], *score_tokens(logits, chosen[:, 1]))

    def _verify(self, slots: Tensor, positions: Tensor, chosen: Tensor) -> None:
        state = self._state
        if self._accept is None:
            state.accept(slots, positions, chosen)
        else:
            self._accept(chosen, state.table, slots, state.offsets, state.drafts)

    def _choose_without_kernels(
        self, logits: Tensor, slots: Tensor, positions: Tensor, mode: SamplingMode
    ) -> Tensor:
        """The twin of the kernels, [R] token ids."""
        token_ids = logits.argmax(-1)  # [R]
        if mode.ranking is None:
            return token_ids
        columns = self._state.draw_columns(slots)
        drawn = draw(logits, columns, uniform(columns.seed, positions), mode.ranking)
        return torch.where(columns.temperature > 0, drawn, token_ids)


def is_finite(logits: Tensor) -> Tensor:
    """[R, vocab_size] -> [R]: NaN anywhere in a row makes its maximum NaN."""
    return logits.amax(-1).isfinite()


def score_prompt(logits: Tensor, token_ids: Tensor, num_top: int) -> Tensor:
    """logits [L, vocab_size] at a prompt's positions, the tokens that follow them [L] -> what a
    `DeviceSampler` would say of them."""
    return pack_scores(is_finite(logits), *score_tokens(logits, token_ids, num_top))


def pack_scores(are_numbers: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    """One tensor of integers, so that one copy brings it to the host."""
    return torch.cat([are_numbers.long()[:, None], ids, values.view(torch.int32).long()], dim=1)


@dataclass(frozen=True, slots=True)
class SampledRow:
    """What became of one row."""

    is_finite: bool
    token_id: int
    scores: Scores | None


def read_sampled(rows: Tensor) -> list[SampledRow]:
    """What a `DeviceSampler` has said, [R, W], on the host."""
    width = rows.shape[1]
    if width == 2:
        return [
            SampledRow(bool(is_finite), token_id, None) for is_finite, token_id in rows.tolist()
        ]
    num_ids = (width - 1) // 2 + 1  # the token, its rank and K ids; then 1 + K logprobs
    ids = rows[:, 1 : 1 + num_ids].tolist()
    values = rows[:, 1 + num_ids :].int().view(torch.float32).tolist()
    return [
        SampledRow(bool(is_finite), own[0], (own, logprobs))
        for is_finite, own, logprobs in zip(rows[:, 0].tolist(), ids, values, strict=True)
    ]

"""What interventions did, as it is told."""

import math
from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType

from thirdeye.server.api.http.json_response import Count
from thirdeye.server.api.introspection.inspection_numbers import DIGITS, floats
from thirdeye.server.engine.interface.interventions import SweepSpec, SweptVariant, variants_of
from thirdeye.server.engine.interface.trace import Array

NOISE_SDS = 3  # two ends that lie closer than so many deviations of the noise have nothing between


class InterventionOutcome(Struct, kw_only=True):
    """Of the next token. `kl`: KL(base || this) in nats; `logit_difference`: of the first token of
    `compare` less the second, null where there is one; `logprobs` and `ranks` (how many tokens are
    likelier) of each."""

    kl: float
    logit_difference: float | None
    logprobs: list[float]
    ranks: list[Count]


class MeasuredNoise(Struct):
    """Of `runs` of the text as it is, with its embeddings changed by one part in a million: an
    effect below `kl_max` says nothing."""

    runs: Count
    kl_median: float
    kl_max: float
    logit_difference_sd: float | None


class SweptOutcome(InterventionOutcome, kw_only=True):
    """One variant; `recovered`: of the way from the base's logit difference to the source's, null
    where these are too close together to tell."""

    layer: Count | UnsetType = UNSET
    head: Count | UnsetType = UNSET
    kv_head: Count | UnsetType = UNSET
    position: Count | UnsetType = UNSET
    is_above_noise: bool
    recovered: float | UnsetType | None = UNSET


def outcome(row: Sequence[float]) -> InterventionOutcome:
    """row [6], as `EFFECT_FIELDS`."""
    kl, difference, first, second, rank, other_rank = row
    has_second = not math.isnan(second)
    return InterventionOutcome(
        kl=rounded(max(kl, 0.0)),
        logit_difference=rounded(difference) if has_second else None,
        logprobs=[rounded(first), *([rounded(second)] if has_second else [])],
        ranks=[int(rank), *([int(other_rank)] if has_second else [])],
    )


def outcome_of(arrays: dict[str, Array], name: str) -> InterventionOutcome | UnsetType:
    return outcome(floats(arrays[name])) if name in arrays else UNSET


def noise_of(arrays: dict[str, Array]) -> MeasuredNoise | UnsetType:
    if "noise" not in arrays:
        return UNSET
    runs, median, largest, deviation = floats(arrays["noise"])
    told = None if math.isnan(deviation) else rounded(deviation)
    return MeasuredNoise(int(runs), rounded(max(median, 0.0)), rounded(max(largest, 0.0)), told)


class SweptOutcomes:
    """The variants of one sweep, as they are done."""

    def __init__(self, sweep: SweepSpec, num_heads: int, num_kv_heads: Sequence[int]) -> None:
        self._over = sweep.over
        self._variants = variants_of(sweep, num_heads, num_kv_heads)
        self._noise: MeasuredNoise | UnsetType = UNSET
        self._ends: tuple[float | None, float | None] | None = None

    def begin(self, arrays: dict[str, Array]) -> None:
        """What is known before the first of them."""
        self._noise = noise_of(arrays)
        base, source = (outcome_of(arrays, f"{name}_effect") for name in ("base", "source"))
        if base is not UNSET and source is not UNSET:
            self._ends = (base.logit_difference, source.logit_difference)

    def told(self, values: Array) -> list[SweptOutcome]:
        """values [m, 7]: numbers of variants, and what came of them."""
        found = []
        flat, width = floats(values), values.shape[1]
        for start in range(0, len(flat), width):
            number, *row = flat[start : start + width]
            variant = self._variants[int(number)]
            own = outcome(row)
            told = SweptOutcome(
                kl=own.kl,
                logit_difference=own.logit_difference,
                logprobs=own.logprobs,
                ranks=own.ranks,
                is_above_noise=self._noise is UNSET or own.kl > self._noise.kl_max,
                recovered=self._recovered(own.logit_difference),
            )
            self._place(told, variant)
            found.append(told)
        return found

    def _place(self, told: SweptOutcome, variant: SweptVariant) -> None:
        if variant.layer >= 0:
            told.layer = variant.layer
        if variant.position >= 0:
            told.position = variant.position
        if variant.index >= 0 and self._over == "heads":
            told.head = variant.index
        elif variant.index >= 0:
            told.kv_head = variant.index

    def _recovered(self, difference: float | None) -> float | UnsetType | None:
        if self._ends is None:
            return UNSET
        base, source = self._ends
        if difference is None or base is None or source is None:
            return None
        floor = 0.0 if self._noise is UNSET else self._noise.logit_difference_sd or 0.0
        if abs(source - base) <= NOISE_SDS * floor:
            return None
        return rounded((difference - base) / (source - base))


def rounded(value: float) -> float:
    """To as many digits, however small: noise in fp32 is a matter of 1e-7."""
    return float(f"{value:.{DIGITS}g}") + 0.0  # and never -0.0

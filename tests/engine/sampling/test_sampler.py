"""Draws follow the distribution they claim, and depend on nothing but (seed, position, logits)."""

import math
from collections.abc import Callable
from collections.abc import Sequence as Seq

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from tests.draws import also_at_night, count, draws
from thirdeye.server.engine.interface.types import SamplingParams
from thirdeye.server.engine.sampling import sampler
from thirdeye.server.engine.sampling.native_sampler import NativeSampler
from thirdeye.server.engine.sampling.sampler import (
    NO_TOKEN,
    Ranking,
    Sampler,
    draw,
    make_draw_columns,
    make_draw_params,
    plan_ranking,
    rank,
    sample,
    top_k_floor,
    top_p_floor,
)

torch.set_num_threads(1)


Choose = Callable[[Tensor, Seq[SamplingParams], Seq[int]], Tensor]


@pytest.fixture(scope="module", params=["torch", "native"])
def choose(request: pytest.FixtureRequest) -> Choose:
    """Both samplers, by what requests ask for."""
    sampler: Sampler = sample
    if request.param == "native":
        sampler = NativeSampler(request.getfixturevalue("native"))
    return lambda logits, samplings, positions: sampler(
        logits, [make_draw_params(sampling) for sampling in samplings], positions
    )


def params(**fields: object) -> SamplingParams:
    return SamplingParams(**({"max_tokens": 1} | fields))  # type: ignore[arg-type]  # test fields


def kept_probabilities(logits: list[float], p: SamplingParams) -> list[float]:
    """The definition, token by token, in float64: the sorted-cumulative one of top-p."""
    highest = max(logits)
    mass = {i: math.exp((x - highest) / p.temperature) for i, x in enumerate(logits)}
    mass = {i: m for i, m in mass.items() if m >= p.min_p * max(mass.values())}
    ranked = sorted(mass, key=lambda i: -mass[i])
    if p.top_k:
        ranked = ranked[: p.top_k]
    goal, so_far, nucleus = p.top_p * sum(mass[i] for i in ranked), 0.0, []
    for i in ranked:
        if so_far >= goal:
            break
        nucleus.append(i)
        so_far += mass[i]
    return [mass[i] / so_far if i in nucleus else 0.0 for i in range(len(logits))]


def chi_square_limit(degrees: int) -> float:
    """Exceeded by chance once in about 10^5 (Wilson and Hilferty's approximation)."""
    return float(degrees * (1 - 2 / (9 * degrees) + 4.27 * math.sqrt(2 / (9 * degrees))) ** 3)


@also_at_night
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 3.0},
        {"top_k": 4},
        {"top_p": 0.8},
        {"min_p": 0.2},
        {"temperature": 1.5, "top_k": 9, "top_p": 0.85, "min_p": 0.02},
    ],
    ids=str,
)
def test_draws_follow_the_distribution(fields: dict[str, float], choose: Choose) -> None:
    """Chi-square over 10^4 draws, at night 10^5, one for each position."""
    num_draws = count(10_000, 100_000)
    logits = torch.randn(12, generator=torch.Generator().manual_seed(4)) * 1.5
    p = params(seed=11, **fields)
    expected = torch.tensor(kept_probabilities(logits.tolist(), p)) * num_draws
    drawn = choose(logits.expand(num_draws, -1), [p] * num_draws, range(num_draws))
    counts = torch.bincount(drawn, minlength=12).double()
    is_kept = expected > 0
    assert counts[~is_kept].sum() == 0
    chi_square = ((counts - expected)[is_kept] ** 2 / expected[is_kept]).sum()
    assert chi_square < chi_square_limit(int(is_kept.sum()) - 1)


rows = st.sampled_from([2, 20]).flatmap(
    lambda spread: st.lists(
        st.floats(-spread, spread, width=32),
        min_size=2,
        max_size=50,
        unique_by=lambda x: round(x, 2),
    )
)


@draws(40, 200)
@given(
    logits=rows,
    top_p=st.floats(0.01, 1.0),
    top_k=st.integers(0, 60),
    num_ranked=st.sampled_from([1, 4, 256]),
)
@example(logits=[1.0, 0.6, 0.5, 0.4, 0.3, 0.2], top_p=0.5, top_k=2, num_ranked=256)
def test_kept_set_is_the_sorted_cumulative_one(
    logits: list[float], top_p: float, top_k: int, num_ranked: int
) -> None:
    """Also where the likeliest few that are ranked at first do not hold all of top-p."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "NUM_RANKED", num_ranked)
        kept = kept_set(torch.tensor([logits]), top_k, top_p)[0]
    p = params(top_p=top_p, top_k=top_k)
    expected = [m > 0 for m in kept_probabilities(logits, p)]
    loose = [m > 0 for m in kept_probabilities(logits, params(top_p=top_p * 1.001, top_k=top_k))]
    tight = [m > 0 for m in kept_probabilities(logits, params(top_p=top_p * 0.999, top_k=top_k))]
    if loose == tight:  # not within rounding of the border between two sets
        assert kept.tolist() == expected
    assert kept[torch.tensor(logits).argmax()]


def kept_set(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    scaled = logits - logits.amax(-1, keepdim=True)
    vocab_size = logits.shape[-1]
    ranking = plan_ranking(
        [make_draw_params(params(top_p=top_p, top_k=top_k))], vocab_size, may_look=True
    )
    if not ranking.num_ranked:
        return scaled > -math.inf
    ranked = rank(scaled, ranking.num_ranked)
    floor = top_k_floor(ranked, torch.tensor([top_k] * len(logits)), vocab_size)
    column = torch.full((len(logits), 1), top_p)
    return scaled >= top_p_floor(scaled, ranked, floor, column, ranking.is_enough)


@draws(10, 50)
@given(data=st.data())
def test_a_row_is_the_same_whatever_shares_the_batch(choose: Choose, data: st.DataObject) -> None:
    """Rows with other parameters beside it must not change a draw, bit by bit."""
    vocab_size = data.draw(st.sampled_from([5, 300, 1000]))
    num_rows = data.draw(st.integers(1, 8))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    logits = torch.randn(num_rows, vocab_size, generator=generator)
    samplings = [
        params(
            temperature=data.draw(st.sampled_from([0.0, 0.3, 1.0])),
            top_k=data.draw(st.sampled_from([0, 1, 3, 400])),
            top_p=data.draw(st.sampled_from([0.0, 0.5, 0.99, 1.0])),
            min_p=data.draw(st.sampled_from([0.0, 0.1])),
            seed=data.draw(st.integers(-(2**63), 2**64)),
        )
        for _ in range(num_rows)
    ]
    positions = [data.draw(st.integers(0, 1000)) for _ in range(num_rows)]
    together = choose(logits, samplings, positions).tolist()
    alone = [
        choose(logits[i : i + 1], [samplings[i]], [positions[i]]).item() for i in range(num_rows)
    ]
    assert together == alone


def test_greedy_is_argmax(choose: Choose) -> None:
    logits = torch.tensor([[0.0, 5.0, 5.0], [9.0, 1.0, 2.0]])
    for greedy in (params(temperature=0.0), params(top_p=0.0), params(top_k=1)):
        assert choose(logits[1:], [greedy], [3]).tolist() == [0]
    assert choose(logits, [params(temperature=0.0)] * 2, [0, 0]).tolist() == [1, 0]
    assert choose(logits[:1], [params(temperature=1e-45)], [0]).item() in (1, 2)


@draws(10, 50)
@given(data=st.data())
def test_what_is_ranked_in_advance_changes_nothing(data: st.DataObject) -> None:
    """A graph must know before the step how much is put in order; the host's path looks first."""
    vocab_size = data.draw(st.sampled_from([5, 300, 1000]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    flatness = data.draw(st.sampled_from([0.01, 1.0, 5.0]))  # the flattest need every token
    logits = flatness * torch.randn(4, vocab_size, generator=generator)
    draw_params = [
        make_draw_params(
            params(
                temperature=data.draw(st.sampled_from([0.0, 0.3, 1.0])),
                top_k=data.draw(st.sampled_from([0, 1, 40, 256, 257, 400])),
                top_p=data.draw(st.sampled_from([0.5, 0.99, 0.99999, 1.0])),
                min_p=data.draw(st.sampled_from([0.0, 0.0, 0.2])),
            )
        )
        for _ in range(4)
    ]
    noise = torch.rand(4, generator=generator)
    columns = make_draw_columns(draw_params, logits.device)
    whole = draw(logits, columns, noise, Ranking(vocab_size, is_enough=True))
    for may_look in (True, False):
        ranking = plan_ranking(draw_params, vocab_size, may_look=may_look)
        assert may_look or ranking.is_enough
        drawn = draw(logits, columns, noise, ranking)
        is_drawn = columns.temperature > 0
        assert drawn[is_drawn].tolist() == whole[is_drawn].tolist()


def test_unlikely_ends_are_never_out_of_range() -> None:
    """u just below 1 picks the last token that is kept, not one past it, nor one without mass."""
    logits = torch.tensor([[1.0, 2.0, 0.5, -math.inf, -math.inf]])
    for p in (params(), params(top_k=2), params(min_p=0.3)):
        columns = make_draw_columns([make_draw_params(p)], logits.device)
        ranking = plan_ranking([make_draw_params(p)], 5, may_look=True)
        highest, lowest = (
            draw(logits, columns, torch.tensor([u]), ranking).item() for u in (1 - 2**-24, 0.0)
        )
        assert highest in (1, 2)
        assert lowest in (0, 1)


@pytest.mark.parametrize(
    "fields", [{}, {"temperature": 0.0}, {"top_p": 0.5}, {"top_k": 2}], ids=str
)
@pytest.mark.parametrize("size", [5, 100])
def test_a_row_that_says_nothing_has_no_token(
    size: int, fields: dict[str, float], choose: Choose
) -> None:
    """The runner reports the row; what is next to it goes on. Minus infinity is no trouble."""
    for place in (0, size - 1):
        for broken in (math.nan, math.inf):
            logits = torch.zeros(3, size)
            logits[1, place] = broken
            before, token_id, after = choose(logits, [params(**fields)] * 3, [0] * 3).tolist()
            assert token_id == NO_TOKEN
            assert 0 <= before < size
            assert 0 <= after < size
        nothing = torch.full((1, size), -math.inf)
        assert choose(nothing, [params(**fields)], [0]).item() == NO_TOKEN
        nothing[0, place] = -1e30
        assert choose(nothing, [params(**fields)], [0]).item() == place

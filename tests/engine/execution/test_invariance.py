"""Same prompt, same answer: the real transformer in the real engine, bit for bit.

Tokens, logprobs and prompt logprobs of a request are equal whether it runs alone or in any mix, in
chunks of any size, from an empty or a warm prefix cache, preempted or not. On tiny random models
here; `tests/prove` does the same with the default model.
"""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.draws import also_at_night, count, is_night
from tests.engine.execution.request_mixes import CUTS, Answer, alone, answers, make_core, mixes
from tests.engine.toy import make_request
from tests.model.tiny import (
    BESIDE,
    DELTA,
    GPT2,
    HYBRID,
    LATENT,
    LLAMA,
    MAMBA,
    MIXED,
    NEAR,
    NEAR_AND_FAR,
    change,
    random_model,
    unfinished_model,
)
from thirdeye.model.attention.sdpa import SdpaAttention
from thirdeye.model.config import AttentionSpec
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.linear.unquantized import Unquantized
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import Request

CONTEXT = 160  # more than one of attention's key blocks
STARVED = 12  # KV blocks: two requests fit until their answers grow
LONG = change(LLAMA, max_position_embeddings=CONTEXT)
MODELS = {
    "llama": LONG,
    "llama-tied-mqa": change(LONG, num_heads=3, num_kv_heads=1, tie_word_embeddings=True),
    "mixed": change(MIXED, max_position_embeddings=CONTEXT),  # windows shorter than prompts
    "near and far": change(NEAR_AND_FAR, max_position_embeddings=CONTEXT),
    "near": change(LONG, attention=(AttentionSpec(NEAR, window=20),) * 2),  # no layer sees all
    "latent": change(LATENT, max_position_embeddings=CONTEXT),
    "conv": change(HYBRID, max_position_embeddings=CONTEXT),
    "delta": change(DELTA, max_position_embeddings=CONTEXT),
    "mamba": change(MAMBA, max_position_embeddings=CONTEXT),
    "beside": change(BESIDE, max_position_embeddings=CONTEXT),
    "gpt2-wide": change(GPT2, max_position_embeddings=CONTEXT, intermediate_size=1100),
}
EXAMPLES = {"whole": (2, 5), "chunks of 64": (2, 5), "chunks of 7": (1, 2), "chunks of 1": (1, 1)}
THREADS = (1, 2) if is_night() else (2,)  # what is expected comes from one
MIXES = mixes(vocab_size=97, max_prompt=CONTEXT - 8, max_tokens=8, max_requests=4)


FORMS = [
    *MODELS,
    "llama-tied-mqa int8",
    "llama native",
    "llama-tied-mqa int8 native",
    "mixed int8 native",
    "near and far int8 native",
    "latent int8 native",
    "conv int8 native",
    "delta int8 native",
    "mamba int8 native",
    "beside int8 native",
    "gpt2-wide int8 native",
]


def name_of(form: str) -> str:
    return max((name for name in MODELS if form.startswith(name)), key=len)


def cuts_of(form: str) -> list[str]:
    """At a push every other one, the rest in another form of the same model: each model and each
    form are cut in every way."""
    name, cuts = name_of(form), list(CUTS)
    if is_night() or sum(name_of(other) == name for other in FORMS) == 1:
        return cuts
    return cuts[(list(MODELS).index(name) + ("native" in form)) % 2 :: 2]


@pytest.fixture(scope="module", params=FORMS)
def model(request: pytest.FixtureRequest) -> Transformer:
    """With kernels of torch and with ours: a server may have either."""
    name = name_of(request.param)
    how = request.param.removeprefix(name).split()
    native = request.getfixturevalue("native") if "native" in how else None
    quantize = "int8" if "int8" in how else "none"
    return random_model(MODELS[name], quantize=quantize, native=native)


@also_at_night
@pytest.mark.parametrize(
    ("model", "cut"),
    [(form, cut) for form in FORMS for cut in cuts_of(form)],
    indirect=["model"],
)
def test_same_prompt_same_answer(model: Transformer, cut: str) -> None:
    """Any mix, twice in one engine: the second time the prefix cache knows the prompts."""
    torch.set_num_threads(1)

    @settings(
        max_examples=count(*EXAMPLES[cut]),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        requests=MIXES,
        is_starved=st.booleans(),
        is_cached=st.booleans(),
        num_draft_tokens=st.sampled_from([0, 6]),
    )
    def check(
        requests: list[Request], is_starved: bool, is_cached: bool, num_draft_tokens: int
    ) -> None:
        expected = plainly(model, requests)
        core = make_core(
            model,
            num_blocks=STARVED if is_starved else 4 * CONTEXT // 16,
            enable_prefix_caching=is_cached,
            num_draft_tokens=num_draft_tokens,
            **CUTS[cut],
        )
        assert answers(core, requests) == expected
        assert answers(core, requests[::-1]) == expected

    check()


def plainly(model: Transformer, requests: list[Request]) -> dict[str, Answer]:
    """Each alone, from an empty cache that keeps everything."""
    return alone(lambda: make_core(model, keeps_all=True, enable_prefix_caching=False), requests)


def starve(core: EngineCore) -> EngineCore:
    """Where windows leave blocks enough to everybody, now and then the last loses its own."""
    scheduler, steps = core._scheduler, itertools.count(1)
    ensure_blocks = scheduler._ensure_blocks

    def mutant() -> bool:
        is_due = next(steps) % 7 == 0 and len(scheduler._running) > 1
        if is_due:
            scheduler._preempt(scheduler._running.pop())
        return ensure_blocks() or is_due

    if scheduler._config.windows != (0,):
        scheduler._ensure_blocks = mutant  # type: ignore[method-assign]  # a starving pool
    return core


def shared_prompts() -> list[Request]:
    """Long prompts with a long beginning in common, too many for a starved pool: each answer takes
    a block more than its prompt does."""
    return [
        make_request(
            str(i),
            [*range(1, 49), *[i + 1] * 60],
            max_tokens=count(9, 20),
            ignore_eos=True,
            logprobs=2,
        )
        for i in range(4)
    ]


@also_at_night
def test_preempted_and_cached(model: Transformer) -> None:
    """Guards the test above: preemption and prefix hits do happen, and change nothing. Neither do
    threads: the expected answers come from one."""
    torch.set_num_threads(1)
    requests = shared_prompts()
    expected = plainly(model, requests)
    for threads in THREADS:
        torch.set_num_threads(threads)
        starved = starve(make_core(model, num_blocks=STARVED))
        assert answers(starved, requests) == expected
        assert starved.stats().preemptions_total > 0
        warm = make_core(model)
        for _ in range(count(0, 1)):  # at a push one of them leaves the beginning of all
            assert answers(warm, requests) == expected
        assert answers(warm, requests[:1]) == {"0": expected["0"]}
        assert answers(warm, requests) == expected
        assert warm.stats().prefix_cache_hits_total > 0


@also_at_night
@pytest.mark.parametrize("how", ["llama", "mixed int8 native"])
def test_a_cache_in_8_bits(how: str, request: pytest.FixtureRequest) -> None:
    """Alone, together, in chunks, preempted and behind prefixes that are there, by kernels and
    without."""
    torch.set_num_threads(1)
    native = request.getfixturevalue("native") if "native" in how else None
    quantize = "int8" if "int8" in how else "none"
    model = random_model(MODELS[how.split()[0]], quantize=quantize, native=native)
    requests = shared_prompts()

    def core(**sizes: object) -> EngineCore:
        return make_core(model, torch.int8, **sizes)

    expected = alone(lambda: core(enable_prefix_caching=False), requests)
    exact = alone(lambda: make_core(model, enable_prefix_caching=False), requests)
    assert expected != exact
    starved, warm = starve(core(num_blocks=STARVED)), core()
    for each in (starved, warm, core(**CUTS["chunks of 7"]), core(num_draft_tokens=6)):
        assert answers(each, requests) == expected
    assert starved.stats().preemptions_total > 0
    torch.set_num_threads(2)
    assert answers(warm, requests) == expected
    assert warm.stats().prefix_cache_hits_total > 0


@also_at_night
def test_drafts_accepted(model: Transformer) -> None:
    """Guards it too: drafts are made, accepted and refused, and not a bit of a logprob changes. A
    push asks for more and longer answers only where few short ones show no draft of either kind."""
    torch.set_num_threads(1)
    sizes = [(4, 40)] if is_night() else [(2, 16), (2, 40), (4, 40)]
    assert any(shows_drafts(model, *size) for size in sizes)


def shows_drafts(model: Transformer, number: int, max_tokens: int) -> bool:
    prompts = [[i + 1, i + 2, i + 3] * 9 for i in range(number)]
    requests = [
        make_request(str(i), prompt, max_tokens=max_tokens, ignore_eos=True, logprobs=2)
        for i, prompt in enumerate(prompts)
    ]
    expected = plainly(model, requests)
    drafting = make_core(model, num_draft_tokens=6)
    assert answers(drafting, requests) == expected
    stats = drafting.stats()
    drafted, accepted = (
        stats.spec_decode_num_draft_tokens_total,
        stats.spec_decode_num_accepted_tokens_total,
    )
    return 0 < accepted < drafted


def with_library_kernels(part: str) -> Transformer:
    """The model with `F.linear` or with fused attention instead: what this suite must catch."""
    model = unfinished_model(LONG, SdpaAttention() if part == "attention" else None)
    for module in model.modules():
        if part == "linear" and isinstance(module, Linear | TiedLinear):
            module.method = Unquantized()
    model.finish()
    return model


@pytest.mark.parametrize("part", ["linear", "attention"])
def test_the_suite_catches_library_kernels(part: str) -> None:
    """Kernels chosen by shape, as the library does, are found out: by other bits or other words."""
    torch.set_num_threads(1)
    model, requests = with_library_kernels(part), shared_prompts()
    expected = alone(lambda: make_core(model), requests)
    core = make_core(model, **CUTS["chunks of 7"])
    assert answers(core, requests) != expected

"""Same prompt, same answer, on the default model: slow proofs, run by `make prove` alone."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.execution.request_mixes import CUTS, alone, answers, make_core, mixes
from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.interface.types import Request
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.load import load_weights

pytestmark = [pytest.mark.prove, pytest.mark.real, pytest.mark.timeout(7200)]

CONTEXT = 512
EXAMPLES = {"whole": 8, "chunks of 64": 8, "chunks of 7": 3, "chunks of 1": 1}
MIXES = mixes(vocab_size=49152, max_prompt=300, max_tokens=12, max_requests=8)


@pytest.fixture(scope="module", params=["none", "int8", "int8 native"])
def model(default_model, request) -> Transformer:
    quantize, *how = request.param.split()
    native = request.getfixturevalue("native") if how else None
    checkpoint = open_checkpoint(default_model)
    cpu = torch.device("cpu")
    attention = choose_attention("auto", cpu, native)
    model = Transformer(
        checkpoint.config,
        attention,
        dtype=torch.float32,
        device=cpu,
        quantize=quantize,
        native=native,
    )
    load_weights(checkpoint, model)
    model.finish()
    return model


@pytest.mark.parametrize("cut", CUTS)
def test_same_prompt_same_answer(model: Transformer, cut: str) -> None:
    """Real weights and shapes, any mix, cold and warm, roomy and starved."""

    @settings(
        max_examples=EXAMPLES[cut],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(requests=MIXES, is_starved=st.booleans(), num_draft_tokens=st.sampled_from([0, 6]))
    def check(requests: list[Request], is_starved: bool, num_draft_tokens: int) -> None:
        sizes = {"max_model_len": CONTEXT, "num_blocks": 256}
        expected = alone(lambda: make_core(model, enable_prefix_caching=False, **sizes), requests)
        sizes["num_blocks"] = 40 if is_starved else 256
        core = make_core(model, num_draft_tokens=num_draft_tokens, **(sizes | CUTS[cut]))
        assert answers(core, requests) == expected
        assert answers(core, requests[::-1]) == expected

    check()

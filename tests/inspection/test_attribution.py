"""A logit is the sum of its parts: each against transformers' hooks, and all of them together."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.inspection.conftest import TINY, Pair
from tests.inspection.test_readings import TOKENS, finish
from thirdeye.model.inspection.measures.attribution import Attributing, Attribution
from thirdeye.model.inspection.probe import trace_layers
from thirdeye.model.native.library import Library
from thirdeye.model.transformer import Transformer

TWO = [5, 11]
# Layers that differ. A convolution; a gated delta net, and gated heads; Mamba-2 and lone MLPs;
# Mamba-2 beside heads; heads of two sizes, layers told of each token, keys of layers before;
# experts beside the MLP.
UNEVEN = (
    "lfm2", "qwen3_5_text", "nemotron_h-dense", "falcon_h1", "gemma4_text-shared",
    "gemma4_text-experts", "deepseek_v2",
)  # fmt: skip
SHAPES = (  # norms behind, a scale of what is added, of logits, caps, one norm for two, experts
    *TINY, "gemma2", "olmo2", "granite", "cohere", "gpt_neox", "falcon-groups", "bloom", "phi",
    "qwen3_moe", "opt", "opt-350m",
)  # fmt: skip


def attributed(
    model: Transformer, tokens: list[int], position: int = -1, text: list[int] = TOKENS
) -> Attribution:
    ids = torch.tensor(text)
    found = Attributing(model, ids, position % len(ids), 16)
    for trace in trace_layers(model, ids, 8):
        if trace is not None:
            finish(found.add(trace))
            resid = trace.resid_post
    return finish(found.finish(resid, tokens))


def total(found: Attribution) -> Tensor:
    """Of every part."""
    arrays = found.arrays()
    return sum(
        (x.sum() for name, x in arrays.items() if name not in ("logit", "scale")),
        torch.zeros((), dtype=torch.float64),
    )


@pytest.mark.parametrize("tokens", [TWO, [5]])
@pytest.mark.parametrize("position", [-1, 4])
@pytest.mark.parametrize("name", TINY)
def test_each_part_by_transformers_hooks(
    pair_of: Callable[[str], Pair], name: str, position: int, tokens: list[int]
) -> None:
    """What each part adds to the stream, over the final norm's divisor, times gamma, times the
    head's row, in float64."""
    pair = pair_of(name)
    seen, hf = pair.theirs.run(TOKENS), pair.theirs.model
    found = attributed(pair.ours, tokens, position)
    inner = hf.transformer if name == "gpt2" else hf.model
    norm = inner.ln_f if name == "gpt2" else inner.norm
    x = seen.layers[-1]["resid_post"][position].double()
    rows = hf.lm_head.weight.double()[tokens]
    row = rows[0] - rows[1] if len(tokens) > 1 else rows[0]
    direction = norm.weight.double() * row
    if name == "gpt2":
        direction = direction - direction.mean()
        scale = (x.var(correction=0) + norm.eps).sqrt()
    else:
        scale = (x.pow(2).mean() + norm.variance_epsilon).sqrt()

    def of(vector: Tensor) -> Tensor:
        return vector.double() @ direction / scale

    num_heads, size = pair.ours.config.num_heads, pair.ours.config.head_dim
    for layer, layer_seen in enumerate(seen.layers):
        block = pair.theirs.layers[layer]
        matrix = block.attn.c_proj.weight.T if name == "gpt2" else block.self_attn.o_proj.weight
        columns = matrix.reshape(len(matrix), num_heads, size)
        for head in range(num_heads):
            vector = columns[:, head] @ layer_seen["z"][head, position]
            torch.testing.assert_close(found.heads[layer][head], of(vector), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            found.mlp[layer], of(layer_seen["mlp_out"][position]), atol=1e-5, rtol=1e-5
        )
        if name == "gpt2":
            torch.testing.assert_close(
                found.attention_bias[layer], of(block.attn.c_proj.bias), atol=1e-5, rtol=1e-5
            )
    torch.testing.assert_close(
        found.embed, of(seen.layers[0]["embed"][position]), atol=1e-5, rtol=1e-5
    )
    logits = seen.logits[position, tokens].double()
    told = logits[0] - logits[1] if len(tokens) > 1 else logits[0]
    torch.testing.assert_close(found.logit, told, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(total(found), found.logit, atol=1e-6, rtol=0)
    for rest in (found.stream_rounding, found.head_rounding, torch.stack(found.attention_rest)):
        assert rest.abs().max() < 1e-4


@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("name", [*SHAPES, *UNEVEN])
def test_parts_add_up_in_every_architecture_and_form(
    pair_of: Callable[[str], Pair], native: Library, name: str, quantize: str
) -> None:
    """With the head's rounding as a part, to 1e-4; what the parts leave open is nothing."""
    model = pair_of(name).in_c(native, quantize)
    found = attributed(model, TWO)
    open_ = found.logit - total(found) + found.stream_rounding
    assert open_.abs() < 1e-4
    if quantize == "none":
        assert found.head_rounding.abs() < 1e-4
        assert torch.stack(found.attention_rest).abs().max() < 1e-4

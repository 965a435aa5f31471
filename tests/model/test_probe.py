"""A look inside is right: patterns, residual stream and logit lens equal transformers' own."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from tests.model.hf import convert, random_weights
from tests.model.steps import Row, make_batch
from tests.model.test_parity_hf import gpt2, llama
from tests.model.tiny import CPU, GPT2, LLAMA, MIXED, random_model
from tests.oracles import generate
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.inspection.probe import STREAM, LayerTrace, logit_lens, trace_layers
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.native.library import Library
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer

LENGTH = 21


def trace(model: Transformer, token_ids: torch.Tensor, max_rows: int = 100) -> list[LayerTrace]:
    return [found for found in trace_layers(model, token_ids, max_rows) if found is not None]


def eager(hf: GPT2LMHeadModel | LlamaForCausalLM, token_ids: torch.Tensor) -> Any:
    random_weights(hf)
    hf.set_attn_implementation("eager")
    return hf(token_ids[None], output_attentions=True, output_hidden_states=True)


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("max_rows", [1, 7, 100])
def test_everything_equals_transformers(make: Any, max_rows: int) -> None:
    """Patterns to 1e-4, residual stream and lens too, whole or in pieces of any size."""
    hf = make()
    token_ids = torch.randint(101, (LENGTH,), generator=torch.Generator().manual_seed(3))
    theirs = eager(hf, token_ids)
    model, _ = convert(hf, BlockedAttention())
    traces = trace(model, token_ids, max_rows)
    assert len(traces) == 3
    for layer, ours in enumerate(traces):
        close(ours.pattern, theirs.attentions[layer][0])
        close(ours.resid_pre, theirs.hidden_states[layer][0])
    for before, after in pairwise(traces):
        assert torch.equal(before.resid_post, after.resid_pre)
    # transformers' last hidden state has the final norm behind it already.
    close(model.final_norm(traces[-1].resid_post), theirs.hidden_states[-1][0])
    close(logit_lens(model, traces[-1].resid_post), theirs.logits[0].log_softmax(-1))
    middle = model.final_norm(theirs.hidden_states[1][0]) @ hf.lm_head.weight.T
    close(logit_lens(model, traces[1].resid_pre), middle.log_softmax(-1))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [LLAMA, GPT2])
def test_parts_add_up_and_nobody_sees_the_future(config: Any) -> None:
    """The stream is a sum, each row of a pattern is 1, and above the diagonal it is exactly 0."""
    found = trace(random_model(config), torch.arange(9), max_rows=4)
    for layer in found:
        assert torch.equal(layer.resid_mid, layer.resid_pre + layer.attn_out)
        assert torch.equal(layer.resid_post, layer.resid_mid + layer.mlp_out)
        assert layer.pattern.shape == (config.num_heads, 9, 9)
        assert layer.pattern.triu(diagonal=1).eq(0).all()
        close(layer.pattern.sum(-1), torch.ones(config.num_heads, 9))
        by_hand = [getattr(layer, name).square().sum(-1).sqrt() for name in STREAM]
        close(layer.norms(), torch.stack(by_hand))


@pytest.mark.parametrize("max_rows", [7, 100])
def test_windows_caps_sinks_and_two_ropes_equal_the_slow_twin(max_rows: int) -> None:
    """Every way of attending in one model, of which the twin computes each weight by itself."""
    model, ids = random_model(MIXED), torch.arange(1, 38)
    found = trace(model, ids, max_rows)
    for ours, twin in zip(found, generate.layers(model, ids.tolist()), strict=True):
        for name in ("pattern", *STREAM):
            close(getattr(ours, name), getattr(twin, name))
    left = [1 - layer.pattern.sum(-1) for layer in found]  # what the sinks take
    for layer, spec in zip(left, MIXED.attention, strict=True):
        assert (layer.max() > 0.01) == spec.sinks
        assert layer.min() > -1e-5


@pytest.mark.parametrize("kv_dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("config", [LLAMA, GPT2, MIXED])
def test_what_is_seen_is_what_is_served(native: Library, config: Any, kv_dtype: Any) -> None:
    """The served kernels do the work: at the end of the stream are the served logits, bit for bit,
    and no hook is left in the model."""
    model, ids = random_model(config, quantize="int8", native=native), torch.arange(1, 38)
    cache = KVCache(config, 16, 4, kv_dtype, CPU)
    batch = make_batch([Row(ids.tolist(), 0, range(10))], 4, "all")
    before = model(batch, cache).clone()
    found = [t for t in trace_layers(model, ids, 8, kv_dtype) if t is not None]
    assert torch.equal(logit_lens(model, found[-1].resid_post), before.log_softmax(-1))
    backends = [block.attention.backend for block in model.blocks]
    assert backends == model.layer_kinds.backends
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("config", [LLAMA, GPT2])
def test_a_piece_costs_less_than_a_chunk(config: Any) -> None:
    """Multiplications between two pauses: never those of a step of `max_rows` tokens."""
    model, max_rows = random_model(config), 8
    costs, spent = [], 0

    def count(module: Any, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal spent
        spent += args[0].numel() * output.shape[-1]

    for module in model.modules():
        if isinstance(module, Linear | TiedLinear):
            module.register_forward_hook(count)
    for found in trace_layers(model, torch.arange(37), max_rows):
        costs.append(spent)
        spent = 0
        if found is not None:
            logit_lens(model, found.resid_pre[:max_rows])
            costs.append(spent)
            spent = 0
    chunk = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2) * max_rows
    assert len(costs) == config.num_hidden_layers * 6  # 5 pieces of 37 tokens, and a lens
    assert 0 < max(costs) < chunk

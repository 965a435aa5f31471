"""Heads of models whose layers differ: of two sizes, with keys of layers before, gated, or beside
layers that keep a state. By transformers' hooks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from tests.architectures.running import load
from tests.architectures.table import CASES
from tests.inspection.conftest import Pair
from tests.inspection.test_attribution import TWO, UNEVEN, attributed
from tests.inspection.test_edits import logits_of
from tests.inspection.test_readings import TOKENS, finish, traces_of, whole
from tests.model.parallel.test_parallel import on_ranks
from tests.oracles.hooked_model import NAME, attend
from thirdeye.model.inspection.edits import AddVector, Edit, EditChange, Put, Scale
from thirdeye.model.inspection.measures.head_kinds import head_kinds
from thirdeye.model.inspection.readings import OF_HEADS, Readings
from thirdeye.model.inspection.refusals import refusals
from thirdeye.model.native.library import Library
from thirdeye.model.transformer import Transformer

__all__ = ["on_ranks"]  # a fixture

PairOf = Callable[[str], Pair]
Seen = dict[str, Tensor]
GEMMA4 = ("gemma4_text-shared", "gemma4_text-experts")


def run(
    model: PreTrainedModel, changes: dict[str, Callable[[Tensor], Tensor]] | None = None
) -> tuple[list[Seen], Tensor]:
    """Of each layer what passes through each of its modules, by its name, and of heads what
    `attend` sees; and the logits. `changes`: by "layer.module", or what `attend` sees."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, eager_mask)
    model.set_attn_implementation(NAME)
    inner: Any = model.model
    seen: list[Seen] = [{} for _ in inner.layers]
    handles = []

    def keep(layer: int, name: str, value: Tensor) -> Tensor:
        change = (changes or {}).get(f"{layer}.{name}")
        value = value if change is None else change(value.clone())
        seen[layer][name] = value.clone()
        return value

    def after(layer: int, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            change = (changes or {}).get(f"{layer}.{name}")
            if change is not None:
                return change(first.clone())
            if module is output_of(inner.layers[layer]):
                seen[layer]["mixed"] = inputs[0][0].clone()
            seen[layer][name] = first[0].clone()
            return None

        return hook

    for number, layer in enumerate(inner.layers):
        for name, module in layer.named_modules():
            if name:
                handles.append(module.register_forward_hook(after(number, name)))
            if is_attention(module):
                module.through = partial(keep, number)
    try:
        with torch.no_grad():
            logits = model(torch.tensor([TOKENS])).logits[0]
    finally:
        for handle in handles:
            handle.remove()
        for module in filter(is_attention, inner.layers.modules()):
            module.through = lambda _, value: value
    return seen, logits


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", UNEVEN)
def test_heads_are_those_of_transformers(pair_of: PairOf, name: str) -> None:
    """What they ask, see and add; of a layer that has none, none."""
    pair = pair_of(name)
    theirs, _ = run(pair.hf)
    reads = Readings(whole(pair.ours, len(TOKENS)), 8)
    untold = refusals(pair.ours.config)
    visible = torch.ones(len(TOKENS), len(TOKENS), dtype=torch.bool).tril()
    num_attending = 0
    traces, layers = traces_of(pair.ours, TOKENS), pair.hf.model.layers
    for ours, seen, layer in zip(traces, theirs, layers, strict=True):
        told = {
            part: finish(reads.array(ours, part))
            for part in (*OF_HEADS, "pattern", "scores")
            if part not in untold
        }
        if "z" not in seen:
            assert all(len(array) == 0 for array in told.values())
            continue
        num_attending += 1
        close(told["pattern"], seen["pattern"])
        close(told["z"], seen["z"])
        if "rot_q" in told and not pair.ours.config.keeps_latents:  # their order is another
            close(told["rot_q"], seen["rot_q"])
            close(told["rot_k"], seen["rot_k"])
        is_near = visible & ~told["scores"][0].isnan()  # within the layer's window
        close(told["scores"][:, is_near], seen["scores"][:, is_near])
        output: Any = output_of(layer)
        matrix = output.weight * getattr(pair.hf.config, "attention_out_multiplier", 1.0)
        columns = matrix.reshape(len(matrix), len(seen["z"]), -1).transpose(0, 1)
        mixed = seen["mixed"].view(len(TOKENS), len(seen["z"]), -1).transpose(0, 1)
        close(told["result"], mixed @ columns.transpose(1, 2))
        values = seen["values"].repeat_interleave(len(seen["z"]) // len(seen["values"]), dim=0)
        if pair.ours.config.attention_gate:  # of each token that looks
            asked = seen["self_attn.q_proj"].view(len(TOKENS), len(seen["z"]), 2, -1)
            gates = asked[:, :, 1].sigmoid().transpose(0, 1)
            values = gates[:, :, None] * values[:, None]  # [heads, query, key, head_dim]
        added = torch.einsum("h...d,hod->h...o", values, columns)
        close(told["value_norms"], added.norm(dim=-1))
    assert num_attending


def is_attention(module: nn.Module) -> bool:
    return hasattr(module, "q_proj") or hasattr(module, "q_b_proj")


def output_of(layer: nn.Module) -> nn.Module | None:
    """The layer's output matrix, if it attends."""
    for module in layer.modules():
        if is_attention(module):
            found: nn.Module = module.o_proj if hasattr(module, "o_proj") else module.out_proj
            return found
    return None


@pytest.mark.parametrize("name", GEMMA4)
def test_queries_keys_and_values_by_moment(pair_of: PairOf, name: str) -> None:
    """As they are projected, and normed; a layer that reads another's keys projects none."""
    pair = pair_of(name)
    theirs, _ = run(pair.hf)
    reads = Readings(whole(pair.ours, len(TOKENS)), 8)
    for ours, seen in zip(traces_of(pair.ours, TOKENS), theirs, strict=True):
        size = seen["z"].shape[-1]
        for part in "qkv":
            source = f"self_attn.{part}_proj"
            if source not in seen and part == "v":  # the keys are, before their norm
                source = "self_attn.k_proj"
            for told, wanted in ((part, source), (f"{part}_normed", f"self_attn.{part}_norm")):
                found = finish(reads.array(ours, told))
                if wanted in seen:
                    heads = seen[wanted].reshape(len(TOKENS), -1, size).transpose(0, 1)
                    close(found, heads)
                else:
                    assert found.shape == (0, len(TOKENS), size)


def changed_rows(x: Tensor, change: EditChange, head: int, width: int, part: slice) -> Tensor:
    """x [1, n, heads, size] with tokens 3 and 11 of a head changed; `part`: of an edit's columns,
    of which there are `width`."""
    for position in (3, 11):
        row = torch.zeros(1, width)
        row[0, part] = x[0, position, head]
        x[0, position, head] = change(row, torch.zeros(1).long())[0, part]
    return x


@pytest.mark.parametrize("name", GEMMA4)
def test_key_value_heads_are_edited_one_by_one(pair_of: PairOf, native: Library, name: str) -> None:
    """In each layer that keeps keys, of whatever size, for the layers that read them later too."""
    pair = pair_of(name)
    config = pair.ours.config
    _, base = run(pair.hf)
    quantized = pair.in_c(native, "int8")
    plainly = logits_of(quantized, [])
    for number, layer in enumerate(config.keeping_layers):
        size, head = config.head_dim_of(layer), config.num_kv_heads_of(layer) - 1
        generator = torch.Generator().manual_seed(layer)
        values = torch.randn(1, 2 * size, generator=generator)
        change: EditChange = (Put(values), AddVector(values), Scale(-2.0))[number % 3]

        change_of = partial(changed_rows, change=change, head=head, width=2 * size)
        hooks: dict[str, Callable[[Tensor], Tensor]] = {
            f"{layer}.self_attn.k_norm": partial(change_of, part=slice(0, size)),
            f"{layer}.self_attn.v_norm": partial(change_of, part=slice(size, 2 * size)),
        }
        _, theirs = run(pair.hf, hooks)
        edit = Edit("kv_head", change, layer, head, (3, 11))
        torch.testing.assert_close(logits_of(pair.ours, [edit]), theirs, atol=1e-4, rtol=1e-4)
        assert (theirs - base).abs().max() > 1e-3
        assert not torch.equal(logits_of(quantized, [edit]), plainly)


def test_parts_of_a_scaled_stream_by_hooks(pair_of: PairOf) -> None:
    """Gemma 4: each part times the numbers of its layer and all behind it, over the final norm's
    divisor, times gamma, times the head's row."""
    pair = pair_of("gemma4_text-shared")
    seen, _ = run(pair.hf)
    inner: Any = pair.hf.model
    found = attributed(pair.ours, TWO)
    x = traces_of(pair.ours, TOKENS)[-1].resid_post[-1].double()
    row = pair.hf.lm_head.weight.double()[TWO]
    direction = inner.norm.weight.double() * (row[0] - row[1])
    direction = direction / (x.square().mean() + pair.ours.config.norm_eps).sqrt()
    for number in reversed(range(len(inner.layers))):
        direction = direction * inner.layers[number].layer_scalar.double()
        for told, module in (
            (found.mlp, "post_feedforward_layernorm"),
            (found.layer_input, "post_per_layer_input_norm"),
        ):
            expected = seen[number][module][-1].double() @ direction
            torch.testing.assert_close(told[number], expected, atol=1e-5, rtol=1e-5)
        attended = found.heads[number].sum() + found.attention_bias[number]
        expected = seen[number]["post_attention_layernorm"][-1].double() @ direction
        torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)
    embedded = pair.hf.get_input_embeddings()(torch.tensor(TOKENS))[-1].double()
    torch.testing.assert_close(found.embed, embedded @ direction, atol=1e-5, rtol=1e-5)


def test_a_state_is_a_part_of_its_own(pair_of: PairOf) -> None:
    """And layers without heads give no head's part, nor a kind of head."""
    pair = pair_of("qwen3_5_text")
    seen, _ = run(pair.hf)
    found = attributed(pair.ours, TWO)
    x = traces_of(pair.ours, TOKENS)[-1].resid_post[-1].double()
    final: Any = pair.hf.model.norm
    row = pair.hf.lm_head.weight.double()[TWO]
    direction = (1 + final.weight.double()) * (row[0] - row[1])
    direction = direction / (x.square().mean() + pair.ours.config.norm_eps).sqrt()
    kinds = finish(head_kinds(pair.ours, TOKENS, 8, None))
    for number, layer in enumerate(seen):
        if "linear_attn" in layer:
            expected = layer["linear_attn"][-1].double() @ direction
            torch.testing.assert_close(found.state[number], expected, atol=1e-5, rtol=1e-5)
            assert found.heads[number].eq(0).all()
            assert kinds[:, number].isnan().all()
        else:
            assert found.state[number] == 0
            assert (found.heads[number] != 0).all()
            assert kinds[:, number].isfinite().all()


@pytest.mark.parametrize("name", [name for name in UNEVEN if CASES[name].is_shared])
def test_two_ranks_tell_what_one_does(pair_of: PairOf, on_ranks: Any, name: str) -> None:
    """Of an edited run: heads, keys and values of every layer, parts of a logit, and the next
    token; each head is on one rank alone."""
    pair = pair_of(name)
    torch.set_num_threads(1)
    attending, keeping = pair.ours.config.attending_layers, pair.ours.config.keeping_layers
    edits = [
        Edit("head", Scale(0.0), attending[-1], pair.ours.config.num_heads - 1, (2, 9)),
        Edit("kv_head", Scale(-0.5), keeping[0], 1),
        Edit("attn_out", Scale(0.5), 0, positions=(3,)),
    ]
    edits = [edit for edit in edits if edit.at not in refusals(pair.ours.config)]

    def told(model: Transformer) -> list[Tensor]:
        with torch.inference_mode():
            reads = Readings(whole(model, len(TOKENS)), 8)
            parts = [name for name in (*OF_HEADS, "pattern") if name not in refusals(model.config)]
            traces = traces_of(model, TOKENS, edits=edits)
            found = [finish(reads.array(trace, part)) for trace in traces for part in parts]
            shares = attributed(model, TWO).arrays()
            return [*found, *shares.values(), model.unembed(traces[-1].resid_post)]

    expected = told(pair.ours)
    for found in on_ranks(2, lambda ranks: told(load(pair.path, ranks=ranks))):
        for ours, one in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, one, atol=2e-4, rtol=2e-4)

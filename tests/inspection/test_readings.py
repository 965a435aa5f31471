"""What a look tells of heads, norms and neurons is what transformers' own hooks find."""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from tests.architectures.cases import VOCAB_SIZE
from tests.inspection.conftest import TINY, Pair
from thirdeye.model.inspection.heads import output_bias
from thirdeye.model.inspection.measures.head_kinds import head_kinds, random_text
from thirdeye.model.inspection.measures.token_scores import follow, surprisal
from thirdeye.model.inspection.probe import LayerTrace, logit_lens, trace_layers
from thirdeye.model.inspection.readings import Readings, Selection
from thirdeye.model.transformer import Transformer

T = TypeVar("T")
PairOf = Callable[[str], Pair]
TOKENS = torch.randint(VOCAB_SIZE, (21,), generator=torch.Generator().manual_seed(4)).tolist()
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def finish(pieces: Generator[None, None, T]) -> T:
    """What a generator returns at its end."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            found: T = end.value
            return found


def traces_of(
    model: Transformer, ids: list[int], max_rows: int = 8, **more: Any
) -> list[LayerTrace]:
    pieces = trace_layers(model, torch.tensor(ids), max_rows, **more)
    return [trace for trace in pieces if trace is not None]


def read_part(reads: Readings, trace: LayerTrace, name: str) -> Tensor:
    return finish(reads.array(trace, name))


def whole(model: Transformer, num_tokens: int, **changes: Any) -> Selection:
    chosen = {"heads": tuple(range(model.config.num_heads)), "positions": tuple(range(num_tokens))}
    return Selection(**(chosen | changes))


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("name", TINY)
def test_heads_and_neurons_are_those_of_transformers(pair_of: PairOf, name: str) -> None:
    """Queries, keys and values before and after they are turned, scores, patterns, z, all of it."""
    pair = pair_of(name)
    config, num_tokens = pair.ours.config, len(TOKENS)
    theirs = pair.theirs.run(TOKENS).layers
    reads = Readings(whole(pair.ours, num_tokens), 8)
    unmasked = Readings(whole(pair.ours, num_tokens, is_masked=False), 8)
    for ours, seen in zip(traces_of(pair.ours, TOKENS), theirs, strict=True):
        read = partial(read_part, reads, ours)
        for part in ("pattern", "z", "rot_q", "rot_k"):
            close(read(part), seen[part])
        close(read("v"), seen["values"])
        for part in ("q", "k"):
            if name == "gpt2":
                close(read(part), seen[f"rot_{part}"])  # it does not turn them
                continue
            for normed in {f"{part}_normed", part} & seen.keys():
                heads = seen[normed].reshape(num_tokens, -1, config.head_dim)
                close(read(normed), heads.transpose(0, 1))
        visible = torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril()
        close(read("scores")[:, visible], seen["scores"][:, visible])
        assert read("scores")[:, ~visible].isnan().all()
        close(finish(unmasked.array(ours, "scores")), seen["scores"])
        for part in ("resid_pre", "attn_out", "mlp_out", "resid_post"):
            close(read(part), seen[part])
        largest = seen["neurons"].abs().topk(10, dim=-1).indices
        assert torch.equal(read("neurons")[..., 0].long(), largest)
        close(read("neurons")[..., 1], seen["neurons"].gather(1, largest))


@pytest.mark.parametrize("name", TINY)
def test_heads_add_up_to_what_attention_adds(pair_of: PairOf, name: str) -> None:
    """`result` by each head's columns of the output matrix; lengths of values the same way."""
    pair = pair_of(name)
    num_heads, size = pair.ours.config.num_heads, pair.ours.config.head_dim
    reads = Readings(whole(pair.ours, len(TOKENS)), 8)
    for layer, (ours, seen) in enumerate(
        zip(traces_of(pair.ours, TOKENS), pair.theirs.run(TOKENS).layers, strict=True)
    ):
        hf = pair.theirs.layers[layer]
        matrix = hf.attn.c_proj.weight.T if name == "gpt2" else hf.self_attn.o_proj.weight
        columns = matrix.reshape(len(matrix), num_heads, size).transpose(0, 1)  # [heads, d, size]
        results = finish(reads.array(ours, "result"))
        close(results, seen["z"] @ columns.transpose(1, 2))
        bias = output_bias(ours.block.attention, ours.z)
        close(results.sum(0) + bias, seen["attn_out"])
        values = seen["values"].repeat_interleave(num_heads // len(seen["values"]), dim=0)
        lengths = (values @ columns.transpose(1, 2)).norm(dim=-1)
        close(finish(reads.array(ours, "value_norms")), lengths)


@pytest.mark.parametrize("name", TINY)
def test_norm_stats_are_of_what_a_norm_reads(pair_of: PairOf, name: str) -> None:
    pair = pair_of(name)
    reads = Readings(whole(pair.ours, len(TOKENS)), 8)
    for ours, seen in zip(
        traces_of(pair.ours, TOKENS), pair.theirs.run(TOKENS).layers, strict=True
    ):
        stats = finish(reads.array(ours, "norm_stats"))
        for which, x in enumerate((seen["resid_pre"], seen["resid_pre"] + seen["attn_out"])):
            mean, rms, std, scale = stats[which].unbind(-1)
            close(mean, x.mean(-1))
            close(rms, x.pow(2).mean(-1).sqrt())
            close(std, x.std(-1, correction=0))
            divided = std if name == "gpt2" else rms
            close(scale, (divided.square() + pair.ours.config.norm_eps).sqrt())


@pytest.mark.parametrize("name", ["qwen3_moe", "qwen3_moe-dense-among"])
def test_routing_is_whom_the_gate_asks(pair_of: PairOf, name: str) -> None:
    """The best by transformers' own gate, and what they weigh; nobody in a layer with one MLP."""
    pair = pair_of(name)
    reads = Readings(whole(pair.ours, len(TOKENS)), 8)
    asked: list[tuple[Tensor, Tensor] | None] = []
    hf: Any = pair.hf
    for layer in hf.model.layers:
        if hasattr(layer.mlp, "gate"):
            layer.mlp.gate.register_forward_hook(lambda _, __, output: asked.append(output[1:]))
        else:
            asked.append(None)
    with torch.no_grad():
        hf(torch.tensor([TOKENS]))
    for ours, theirs in zip(traces_of(pair.ours, TOKENS), asked, strict=True):
        routing = read_part(reads, ours, "routing")
        if theirs is None:
            assert routing.shape == (len(TOKENS), 0, 2)
            continue
        weights, chosen = theirs
        assert torch.equal(routing[..., 0].long(), chosen)
        close(routing[..., 1], weights)


def test_only_chosen_heads_and_positions_are_told(pair_of: PairOf) -> None:
    """In the order they are asked for; keys and values are those that the heads look at."""
    pair = pair_of("llama")
    every = Readings(whole(pair.ours, len(TOKENS)), 100)
    some = Readings(Selection(heads=(4, 0), positions=(20, 3)), 8)
    trace = traces_of(pair.ours, TOKENS)[1]
    for name in ("q", "rot_q", "z", "result", "pattern", "scores", "value_norms"):
        expected = finish(every.array(trace, name))[[4, 0]]
        if name != "value_norms":  # of every key
            expected = expected[:, [20, 3]]
        torch.testing.assert_close(
            finish(some.array(trace, name)), expected, equal_nan=True, **CLOSE
        )
    for name in ("k", "v", "rot_k"):  # heads 4 and 0 of 6 look at 1 and 0 of 2
        expected = finish(every.array(trace, name))[[1, 0]][:, [20, 3]]
        close(finish(some.array(trace, name)), expected)
    for name in ("norms", "norm_stats", "neurons", "resid_mid"):
        by_position = finish(every.array(trace, name))
        chosen = by_position[:, [20, 3]] if name.startswith("norm") else by_position[[20, 3]]
        close(finish(some.array(trace, name)), chosen)


@pytest.mark.parametrize("name", TINY)
def test_surprisal_and_followed_tokens(pair_of: PairOf, name: str) -> None:
    """By transformers' cross entropy, and a plain count of the likelier tokens."""
    pair = pair_of(name)
    logits = pair.theirs.run(TOKENS).logits
    resid = traces_of(pair.ours, TOKENS)[-1].resid_post
    told = finish(surprisal(pair.ours, resid, torch.tensor(TOKENS), 8))
    expected = torch.nn.functional.cross_entropy(
        logits[:-1], torch.tensor(TOKENS[1:]), reduction="none"
    )
    close(told[:, 0], expected)
    likelier = [
        int((row > row[token]).sum()) for row, token in zip(logits, TOKENS[1:], strict=False)
    ]
    assert told[:, 1].tolist() == likelier
    close(told[:, 2], torch.distributions.Categorical(logits=logits[:-1]).entropy())
    followed = follow(logit_lens(pair.ours, resid[-2:]), [7, 3])
    close(followed[..., 0], logits[-2:].log_softmax(-1)[:, [7, 3]])
    assert followed[1, 0, 1] == (logits[-1] > logits[-1, 7]).sum()


@pytest.mark.parametrize("name", TINY)
def test_kinds_of_heads_by_plain_counting(pair_of: PairOf, name: str) -> None:
    """Of transformers' patterns, on the same repeated tokens: weight on the token before, on an
    earlier copy of the query's token, and on what stands behind such a copy."""
    pair = pair_of(name)
    ids = random_text(VOCAB_SIZE)
    assert ids[:30] == ids[30:]
    told = finish(head_kinds(pair.ours, ids, 16, None))
    for layer, seen in enumerate(pair.theirs.run(ids).layers):
        shares = torch.zeros(3, pair.ours.config.num_heads)
        for query, token in enumerate(ids):
            for key in range(query + 1):
                is_wanted = (
                    key == query - 1,
                    key < query and ids[key] == token,
                    key > 0 and key - 1 < query and ids[key - 1] == token,
                )
                for kind, wanted in enumerate(is_wanted):
                    shares[kind] += seen["pattern"][:, query, key] * wanted / len(ids)
        close(told[:, layer], shares)

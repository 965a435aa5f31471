"""A look inside over the whole way: loader, engine process, HTTP; and the real model's patterns."""

import base64
from dataclasses import replace

import httpx
import pytest
import torch

from tests.e2e.answers.test_parity import load, load_exact
from tests.inspection.test_readings import finish
from tests.oracles.hooked_model import HookedModel
from tests.oracles.real_model import load_reference
from tests.tiny import tiny_gpt2, tiny_llama
from thirdeye.model.inspection.edits import Edit, Put, Scale
from thirdeye.model.inspection.measures.attribution import Attributing
from thirdeye.model.inspection.probe import logit_lens, trace_layers
from thirdeye.model.inspection.readings import Readings, Selection
from thirdeye.model.linear.choose_method import choose_quantization
from thirdeye.model.native.library import Library
from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer
from thirdeye.server.load.load_engine import load_model
from thirdeye.weights.checkpoint import open_checkpoint

NOODLES = "Greasy fried noodles will be my lunch"


@torch.inference_mode()
def check(ours, theirs, token_ids: list[int], *, lens_atol: float) -> None:
    """Every layer's pattern to 1e-4, and the distribution that comes of it."""
    theirs.set_attn_implementation("eager")
    ids = torch.tensor(token_ids)
    expected = theirs(ids[None], output_attentions=True, output_hidden_states=True)
    traces = [trace for trace in trace_layers(ours, ids, 5) if trace is not None]
    assert len(traces) == len(expected.attentions)
    for trace, attention in zip(traces, expected.attentions, strict=True):
        torch.testing.assert_close(trace.pattern, attention[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        logit_lens(ours, traces[-1].resid_post).exp(),
        expected.logits[0].softmax(-1),
        atol=lens_atol,
        rtol=0,
    )


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_patterns_of_tiny_checkpoints(tmp_path, make):
    """Through the real loader, and with the names of a published checkpoint."""
    theirs = make(tmp_path)
    check(load(tmp_path), theirs, list(range(3, 40)), lens_atol=1e-4)


@pytest.mark.real
def test_patterns_of_the_default_model(default_model):
    """All 270 heads of the served model equal transformers' eager attention to 1e-4."""
    token_ids = open_checkpoint(default_model).tokenizer().encode(NOODLES)
    check(load_exact(default_model), load_reference(default_model), token_ids, lens_atol=1e-4)


@pytest.mark.real
@torch.inference_mode()
def test_heads_and_parts_of_the_default_model(default_model):
    """Scores and z of some layers by transformers' hooks, and each head's and MLP's part of a
    difference of logits, of all of them, in float64."""
    tokens = open_checkpoint(default_model).tokenizer().encode(NOODLES)
    theirs, ours = HookedModel(load_reference(default_model)), load_exact(default_model)
    seen, ids = theirs.run(tokens), torch.tensor(tokens)
    two = seen.logits[-1].topk(2).indices.tolist()
    visible = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
    reads = Readings(Selection(tuple(range(9)), tuple(range(len(tokens)))), 64)
    attributing = Attributing(ours, ids, len(tokens) - 1, 64)
    for layer, trace in enumerate(t for t in trace_layers(ours, ids, 64) if t is not None):
        finish(attributing.add(trace))
        resid = trace.resid_post
        if layer in (0, 16, 29):
            scores = finish(reads.array(trace, "scores"))[:, visible]
            expected = seen.layers[layer]["scores"][:, visible]
            torch.testing.assert_close(scores, expected, atol=1e-3, rtol=1e-4)
            z = finish(reads.array(trace, "z"))
            torch.testing.assert_close(z, seen.layers[layer]["z"], atol=1e-4, rtol=1e-3)
    found = finish(attributing.finish(resid, two))
    x = seen.layers[-1]["resid_post"][-1].double()
    rows = theirs.model.lm_head.weight.double()[two]
    scale = (x.pow(2).mean() + 1e-5).sqrt()
    direction = theirs.model.model.norm.weight.double() * (rows[0] - rows[1]) / scale
    for layer, block in enumerate(theirs.layers):
        columns = block.self_attn.o_proj.weight.double().reshape(576, 9, 64)
        z = seen.layers[layer]["z"][:, -1].double()  # [9, 64]
        by_head = torch.einsum("dhc,hc,d->h", columns, z, direction)
        torch.testing.assert_close(found.heads[layer], by_head, atol=1e-4, rtol=0)
        by_mlp = seen.layers[layer]["mlp_out"][-1].double() @ direction
        torch.testing.assert_close(found.mlp[layer], by_mlp, atol=1e-4, rtol=0)
    logits = seen.logits[-1, two].double()
    torch.testing.assert_close(found.logit, logits[0] - logits[1], atol=1e-3, rtol=0)
    assert found.stream_rounding.abs() < 1e-4
    assert found.head_rounding.abs() < 1e-4


@pytest.mark.real
@torch.inference_mode()
def test_interventions_on_the_default_model(default_model):
    """Heads switched off, and cells of a patching grid, as transformers' hooks do it."""
    tokenizer = open_checkpoint(default_model).tokenizer()
    theirs, ours = HookedModel(load_reference(default_model)), load_exact(default_model)
    tokens = tokenizer.encode(NOODLES)

    def off(layer, head):
        def zero(z):
            z[head] = 0
            return z

        return [Edit("head", Scale(0.0), layer, head)], {("z", layer): zero}

    def put(layer, position, values):
        def patch(x):
            x[position] = values
            return x

        edit = Edit("resid_pre", Put(values[None]), layer, positions=(position,))
        return [edit], {("resid_pre", layer): patch}

    girl, boy = (
        tokenizer.encode(f"The {who} went to the store because") for who in ("girl", "boy")
    )
    source = theirs.run(girl).layers
    cases = [(tokens, off(0, 1)), (tokens, off(16, 0)), (tokens, off(29, 8))]
    cases += [(boy, put(layer, 1, source[layer]["resid_pre"][1])) for layer in (5, 20)]
    cases += [(boy, put(29, len(boy) - 1, source[29]["resid_pre"][-1]))]
    for ids, (edits, hooks) in cases:
        traces = [t for t in trace_layers(ours, torch.tensor(ids), 64, edits=edits) if t]
        found = ours.unembed(traces[-1].resid_post[-1:])[0]
        expected = theirs.run(ids, hooks).logits[-1]
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def served(path, native: Library | None) -> Transformer:
    """The checkpoint as the engine's process keeps it: in 8 bits where the CPU can."""
    where = Placement(torch.float32, torch.device("cpu"), native=native)
    where = replace(where, quantize=choose_quantization("auto", where))
    return load_model(open_checkpoint(path), "auto", where, lambda phase, done, total: None)


def test_a_stream_over_the_engine_process(tiny_server, tmp_path, served_native):
    """What arrives is what the probe computes here, with the weights in the form that serves."""
    tiny_llama(tmp_path)
    ours = served(tmp_path, served_native)
    body = {"prompt": NOODLES, "encoding_format": "base64", "top_logprobs": 3}
    answer = httpx.post(
        f"{tiny_server.url}/v1/inspect", json=body, timeout=60, trust_env=False
    ).json()
    ids = torch.tensor([token["id"] for token in answer["tokens"]])
    with torch.inference_mode():
        kv_dtype = torch.float16 if served_native else torch.float32  # as the server has it
        pieces = trace_layers(ours, ids, 100, kv_dtype)
        traces = [trace for trace in pieces if trace is not None]
        logprobs = logit_lens(ours, traces[-1].resid_post)[-1]
    for layer, trace in zip(answer["layers"], traces, strict=True):
        data = bytearray(base64.b64decode(layer["pattern"]["data"]))
        theirs = torch.frombuffer(data, dtype=torch.float32).view(layer["pattern"]["shape"])
        torch.testing.assert_close(theirs, trace.pattern, atol=1e-5, rtol=0)
    likeliest = logprobs.topk(3)
    assert [guess["id"] for guess in answer["next_token"][0]] == likeliest.indices.tolist()
    assert answer["parameters"]["mlp"] == 2 * 3 * 64 * 128
    norms = answer["layers"][0]["norms"]["resid_post"]
    torch.testing.assert_close(
        torch.tensor(norms), traces[0].resid_post.norm(dim=-1), atol=1e-4, rtol=1e-4
    )

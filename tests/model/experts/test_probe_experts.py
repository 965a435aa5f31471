"""A look inside shows whom each token asked: whom transformers' router chooses."""

from pathlib import Path

import torch

from tests.architectures.cases import randomized
from tests.architectures.expert_cases import qwen3
from tests.architectures.running import load
from thirdeye.model.inspection.probe import trace_layers
from thirdeye.model.native.library import Library

IDS = torch.tensor([5, 17, 3, 80, 2, 9, 11, 40, 41, 8])


def test_whom_a_token_asks(tmp_path: Path, native: Library) -> None:
    """In pieces of the text too; a dense layer among them asks nobody."""
    hf = randomized(qwen3(mlp_only_layers=[1], norm_topk_prob=True))
    hf.save_pretrained(tmp_path)
    logits = hf(IDS[None], output_router_logits=True).router_logits
    assert len(logits) == 2
    for model in (load(tmp_path), load(tmp_path, native=native)):
        traces = [found for found in trace_layers(model, IDS, 4) if found is not None]
        assert traces[1].routing is None
        for trace, scores in zip((traces[0], traces[2]), logits, strict=True):
            found, theirs = trace.routing, scores.softmax(-1).topk(2, dim=-1)
            assert found is not None
            assert torch.equal(found.chosen, theirs.indices)
            expected = theirs.values / theirs.values.sum(-1, keepdim=True)
            torch.testing.assert_close(found.weights, expected, atol=1e-4, rtol=1e-4)

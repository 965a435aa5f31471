"""A tiny Llama in every quantized form: transformers' logits on the weights that it stands for."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tests.architectures.running import load, logits
from tests.draws import also_at_night, is_night
from tests.model.parallel.test_parallel import on_ranks
from tests.weights import tiny
from tests.weights.formats.quantized.compressed_forms import COMPRESSED_FORMS
from tests.weights.formats.quantized.float_forms import FLOAT_FORMS
from tests.weights.formats.quantized.forms import save_quantized
from tests.weights.formats.quantized.integer_forms import INTEGER_FORMS
from tests.weights.sinks import RecordingSink
from thirdeye.model.parallel.shares import Ranks
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.load import load_weights
from thirdeye.weights.serves import check_tensors

__all__ = ["on_ranks"]  # a fixture
FORMS = INTEGER_FORMS | FLOAT_FORMS | COMPRESSED_FORMS
TOKENS = [(7 * i + 3) % 96 for i in range(40)]
Saved = Callable[[str], tuple[PreTrainedModel, Path]]


@pytest.fixture(autouse=True)
def plainly() -> Iterator[None]:
    """One thread: tiny tensors gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def llama(**changes: object) -> LlamaForCausalLM:
    """Of 4 heads that share 2; logits say something and stay small."""
    sizes = {
        "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
        "tie_word_embeddings": False,
    }  # fmt: skip
    model = tiny.randomized(LlamaForCausalLM(LlamaConfig(**(sizes | changes))))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.15)
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    done: dict[str, tuple[PreTrainedModel, Path]] = {}

    def save(name: str) -> tuple[PreTrainedModel, Path]:
        if name not in done:
            model = llama()
            done[name] = model, save_quantized(model, tmp_path_factory.mktemp(name), FORMS[name])
        return done[name]

    return save


everywhere = pytest.mark.parametrize("name", FORMS)


@torch.inference_mode()
def theirs_of(model: PreTrainedModel) -> Tensor:
    found: Tensor = model(torch.tensor([TOKENS])).logits[0]
    assert found.std() > 0.1  # the logits say something
    return found


@everywhere
def test_weights_are_exactly_what_was_written(saved: Saved, name: str) -> None:
    model, path = saved(name)
    checkpoint = open_checkpoint(path)
    check_tensors(checkpoint)
    sink = RecordingSink(checkpoint.config)
    load_weights(checkpoint, sink)
    layer = model.model.layers[0]
    for part, module in (("q", layer.self_attn.q_proj), ("v", layer.self_attn.v_proj)):
        found = sink.loaded["blocks.0.attention.qkv.weight", part]
        torch.testing.assert_close(found, module.weight.detach(), rtol=0, atol=0)
    torch.testing.assert_close(
        sink.loaded["blocks.0.mlp.down.weight", None], layer.mlp.down_proj.weight.detach(),
        rtol=0, atol=0,
    )  # fmt: skip


@everywhere
def test_logits(saved: Saved, name: str) -> None:
    model, path = saved(name)
    with torch.inference_mode():
        torch.testing.assert_close(logits(load(path), TOKENS), theirs_of(model), rtol=0, atol=1e-4)


@everywhere
def test_what_it_is_called(saved: Saved, name: str) -> None:
    """Seven linear layers; embeddings, head and three norms are as they were."""
    _, path = saved(name)
    form = FORMS[name]
    wide = dict.fromkeys(form.wide, 1)
    expected = {form.shown: 7 - len(wide), "F32": 5} | wide
    assert open_checkpoint(path).tensor_formats() == expected


@also_at_night
@pytest.mark.parametrize("name", FORMS if is_night() else [*FORMS][::2])
def test_two_ranks(
    saved: Saved, name: str, on_ranks: Callable[[int, Callable[[Ranks], Tensor]], list[Tensor]]
) -> None:
    model, path = saved(name)

    def share(ranks: Ranks) -> Tensor:
        with torch.inference_mode():
            return logits(load(path, ranks=ranks), TOKENS)

    for found in on_ranks(2, share):
        torch.testing.assert_close(found, theirs_of(model), rtol=0, atol=1e-4)

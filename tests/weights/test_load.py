"""The loader: every tensor used, every parameter filled, or an error that names them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.weights import tiny
from tests.weights.dummy import dummy_tensor, load_dummy_weights
from tests.weights.sinks import RecordingSink
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.load import load_weights


@pytest.fixture
def load(tmp_path: Path) -> "Load":
    """Load a tiny llama after a change to its tensors."""

    def change_and_load(change: Callable[[dict[str, Tensor]], object]) -> RecordingSink:
        path = tiny.save(tiny.llama(), tmp_path / "llama")
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors")
        checkpoint = open_checkpoint(path)
        sink = RecordingSink(checkpoint.config)
        load_weights(checkpoint, sink)
        return sink

    return change_and_load


Load = Callable[[Callable[[dict[str, Tensor]], object]], RecordingSink]
Q = "model.layers.1.self_attn.q_proj.weight"


def test_unchanged(load: Load) -> None:
    assert len(load(lambda tensors: None).loaded) == 21


def test_a_missing_tensor(load: Load) -> None:
    with pytest.raises(
        ModelFormatError,
        match=r"1 parameters have no tensor: blocks\.1\.attention\.qkv\.weight\[q\]\.",
    ):
        load(lambda tensors: tensors.pop(Q))


def test_rotary_caches_are_skipped(load: Load) -> None:
    """Older trainers keep what the config says already."""
    names = [
        "model.rotary_emb.inv_freq",
        "model.layers.1.self_attn.rotary_emb.inv_freq",
        "model.layers.0.self_attn.rotary_emb.cos_cached",
        "rotary_emb.sin_cached",
    ]
    cached = {name: torch.zeros(4) for name in names}
    assert len(load(lambda tensors: tensors.update(cached)).loaded) == 21


def test_an_untied_head_that_is_not_there(tmp_path: Path) -> None:
    """What to do about it is said: only a person knows whether the head is the embeddings."""
    path = tiny.save(tiny.llama(tie_word_embeddings=True), tmp_path / "llama")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    checkpoint = open_checkpoint(path)
    with pytest.raises(ModelFormatError, match=r"lm_head\.weight\. .*'tie_word_embeddings': true"):
        load_weights(checkpoint, RecordingSink(checkpoint.config))


def test_many_missing_tensors_are_cut_short(load: Load) -> None:
    with pytest.raises(ModelFormatError, match=r"21 parameters have no tensor: .*, \.\.\.\.$"):
        load(lambda tensors: tensors.clear())


@pytest.mark.parametrize(
    "name",
    ["model.extra.weight", "model.layers.2.self_attn.q_proj.weight", Q.replace("weight", "bias"),
     "model.layers.0.self_attn.q_proj.weight_scale", "model.layers.-1.mlp.up_proj.weight",
     "model.layers.9999999999.mlp.up_proj.weight", "lm_head.bias", ""],
)  # fmt: skip
def test_an_unknown_tensor(load: Load, name: str) -> None:
    """Also: a layer the config does not have, a bias it does not speak of."""
    with pytest.raises(ModelFormatError, match=r"has no place for 1 tensors: "):
        load(lambda tensors: tensors.update({name: torch.zeros(4)}))


def test_a_wrong_shape(load: Load) -> None:
    with pytest.raises(
        ModelFormatError, match=rf"'{Q}': must have the shape \[32, 32\], got \[32, 31\]"
    ):
        load(lambda tensors: tensors.update({Q: torch.zeros(32, 31)}))


def test_a_tensor_that_comes_twice_by_two_names(load: Load) -> None:
    """`layers.01` is layer 1 again."""
    with pytest.raises(ModelFormatError, match="a second time"):
        load(lambda tensors: tensors.update({Q.replace("1", "01"): torch.zeros(32, 32)}))


def test_a_transposed_shape_is_checked_as_stored(tmp_path: Path) -> None:
    path = tiny.save(tiny.gpt2(), tmp_path / "gpt2")
    tensors = load_file(path / "model.safetensors")
    tensors["transformer.h.0.mlp.c_fc.weight"] = torch.zeros(128, 32)
    save_file(tensors, path / "model.safetensors")
    checkpoint = open_checkpoint(path)
    with pytest.raises(ModelFormatError, match=r"must have the shape \[32, 128\], got \[128, 32\]"):
        load_weights(checkpoint, RecordingSink(checkpoint.config))


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny.save(tiny.llama(), tmp_path / "llama"))
    seen: list[tuple[int, int]] = []
    load_weights(
        checkpoint, RecordingSink(checkpoint.config), lambda *progress: seen.append(progress)
    )
    parameters = sum(parameter.numel() for parameter in tiny.llama().parameters())
    assert seen[-1] == (4 * parameters, 4 * parameters)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("model", [tiny.llama, tiny.gpt2])
def test_dummy_weights_fill_the_same_places(tmp_path: Path, model: Callable[[], object]) -> None:
    checkpoint = open_checkpoint(tiny.save(model(), tmp_path / "model"))  # type: ignore[arg-type]
    real, dummy = RecordingSink(checkpoint.config), RecordingSink(checkpoint.config)
    load_dummy_weights(checkpoint.config, 0, dummy)
    assert dummy.loaded.keys() == dummy.names
    weight = dummy.loaded["blocks.1.mlp.down.weight", None]
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert dummy.loaded["final_norm.weight", None].eq(1).all()
    load_weights(checkpoint, real)
    for (name, part), tensor in real.loaded.items():
        assert dummy_tensor(checkpoint.config, 0, name, part).shape == tensor.shape


def test_dummy_weights_depend_on_seed_and_name_alone(tmp_path: Path) -> None:
    config = open_checkpoint(tiny.save(tiny.llama(), tmp_path / "llama")).config
    name = "blocks.0.attention.qkv.weight"
    assert torch.equal(dummy_tensor(config, 1, name, "q"), dummy_tensor(config, 1, name, "q"))
    assert not torch.equal(dummy_tensor(config, 1, name, "q"), dummy_tensor(config, 2, name, "q"))
    assert not torch.equal(dummy_tensor(config, 1, name, "k"), dummy_tensor(config, 1, name, "v"))

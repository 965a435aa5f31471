"""Filling a model by (name, part): what is expected, what is copied, what is refused."""

import pytest
import torch

from tests.model.tiny import CPU, GPT2, LLAMA, change, unfinished_model
from thirdeye.model.transformer import Transformer


def test_expected_names_of_llama() -> None:
    """The contract with checkpoint readers, name by name."""
    model = unfinished_model(change(LLAMA, num_hidden_layers=1))
    assert model.expected() == {
        ("embed_tokens.weight", None),
        ("blocks.0.attention_norm.weight", None),
        ("blocks.0.attention.qkv.weight", "q"),
        ("blocks.0.attention.qkv.weight", "k"),
        ("blocks.0.attention.qkv.weight", "v"),
        ("blocks.0.attention.output.weight", None),
        ("blocks.0.mlp_norm.weight", None),
        ("blocks.0.mlp.gate_up.weight", "gate"),
        ("blocks.0.mlp.gate_up.weight", "up"),
        ("blocks.0.mlp.down.weight", None),
        ("final_norm.weight", None),
        ("lm_head.weight", None),
    }


def test_expected_names_of_gpt2() -> None:
    """Biases, learned positions and an ungated MLP add names; a tied head takes one away."""
    model = unfinished_model(change(GPT2, num_hidden_layers=1))
    assert {name for name, _ in model.expected()} == {
        "embed_tokens.weight",
        "embed_positions.weight",
        "final_norm.weight",
        "final_norm.bias",
        *(
            f"blocks.0.{layer}.{kind}"
            for layer in (
                "attention_norm",
                "attention.qkv",
                "attention.output",
                "mlp_norm",
                "mlp.up",
                "mlp.down",
            )
            for kind in ("weight", "bias")
        ),
    }
    assert {part for name, part in model.expected() if name.endswith("qkv.bias")} == {"q", "k", "v"}


def test_parts_fill_their_rows() -> None:
    """q, k, v pushed apart are the rows of the merged projection, in this order."""
    model = unfinished_model(LLAMA)
    q, k, v = torch.full((32, 32), 1.0), torch.full((16, 32), 2.0), torch.full((16, 32), 3.0)
    for part, tensor in (("v", v), ("q", q), ("k", k)):
        model.load("blocks.1.attention.qkv.weight", part, tensor)
    merged = model.get_parameter("blocks.1.attention.qkv.weight")
    assert torch.equal(merged, torch.cat((q, k, v)))


def test_whole_merged_parameter() -> None:
    """GPT-2's c_attn is merged already: part None fills all three."""
    model = unfinished_model(GPT2)
    fused = torch.randn(96)
    model.load("blocks.0.attention.qkv.bias", None, fused)
    assert torch.equal(model.get_parameter("blocks.0.attention.qkv.bias"), fused)


def test_dtype_is_the_models() -> None:
    """A checkpoint in fp16 fills a model in bf16."""
    model = Transformer(LLAMA, unfinished_model(LLAMA).backend, dtype=torch.bfloat16, device=CPU)
    tensor = torch.randn(32, dtype=torch.float16)
    model.load("final_norm.weight", None, tensor)
    parameter = model.get_parameter("final_norm.weight")
    assert parameter.dtype == torch.bfloat16
    assert torch.equal(parameter, tensor.to(torch.bfloat16))


def test_tied_head_is_the_embedding() -> None:
    """One tensor is filled and serves both ends, also once the head has packed its own copy."""
    model = unfinished_model(change(LLAMA, tie_word_embeddings=True))
    assert "lm_head.weight" not in dict(model.named_parameters())
    model.finish()
    x = torch.randn(3, 32)
    torch.testing.assert_close(model.lm_head(x), x @ model.embed_tokens.weight.T)


def test_nothing_is_trained() -> None:
    """Parameters that want gradients would keep every activation alive."""
    assert not any(parameter.requires_grad for parameter in unfinished_model(GPT2).parameters())


@pytest.mark.parametrize(
    ("name", "part", "shape", "message"),
    [
        ("final_norm.weight", None, (33,), r"'final_norm.weight' .* \[32\], got \[33\]"),
        ("embed_tokens.weight", None, (32, 97), r"\[97, 32\], got \[32, 97\]"),
        ("blocks.0.attention.qkv.weight", "k", (32, 32), r"qkv.weight\[k\]' .* \[16, 32\]"),
        ("blocks.0.attention.qkv.weight", "k", (1, 32), r"\[16, 32\], got \[1, 32\]"),
        ("blocks.0.mlp.gate_up.weight", None, (48, 32), r"\[96, 32\], got \[48, 32\]"),
    ],
)
def test_wrong_shapes(name: str, part: str | None, shape: tuple[int, ...], message: str) -> None:
    """Never broadcast a tensor that does not fit; say which it was."""
    with pytest.raises(ValueError, match=message):
        unfinished_model(LLAMA).load(name, part, torch.zeros(shape))


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("blocks.9.mlp.down.weight", None, "no parameter 'blocks.9.mlp.down.weight'"),
        ("blocks.0.mlp", None, "no parameter 'blocks.0.mlp'"),
        ("rope.cos", None, "no parameter 'rope.cos'"),
        ("config", None, "no parameter 'config'"),
        ("final_norm.bias", None, "no parameter 'final_norm.bias'"),
        ("", None, "no parameter ''"),
        ("blocks.0.attention.qkv.weight", "gate", r"no part 'gate', only \['q', 'k', 'v'\]"),
        ("final_norm.weight", "q", "has no part 'q'"),
    ],
)
def test_unknown_names(name: str, part: str | None, message: str) -> None:
    """A reader's name table that is wrong is told which name."""
    with pytest.raises(KeyError, match=message):
        unfinished_model(LLAMA).load(name, part, torch.zeros(1))

"""Adapters of transformers' module names, on models of other names and layouts: the logits are
those of a checkpoint with the product merged into its own tensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.architectures.cases import CASES, Case, randomized
from tests.architectures.classic_cases import CLASSIC
from tests.architectures.expert_cases import EXPERTS
from tests.architectures.gemma.gemma4_cases import GEMMA4
from tests.architectures.latent.latent_cases import LATENTS
from tests.architectures.running import load, logits
from tests.architectures.states.state_cases import STATES
from tests.weights.adapters.peft_folder import (
    Factors,
    linear_modules,
    merge,
    random_pair,
    write_adapter,
)
from thirdeye.model.config import ModelConfig
from thirdeye.weights.adapters.adapter import open_adapter
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError

TOKEN_IDS = [3, 1, 4, 1, 5, 9, 2, 6]
ALL = CASES | CLASSIC | EXPERTS | STATES | GEMMA4 | LATENTS
# Each way in which a file's rows are not the model's: merged, transposed, turned otherwise.
NAMES = ["gpt2", "llama", "qwen2", "gemma2", "phi3", "glm", "cohere", "gpt_neox", "falcon"]
NAMES += ["mixtral", "deepseek_v2", "deepseek_v3", "qwen3_5_text"]
# A base's own form changes nothing of its adapters, whose names are transformers': three say so.
FORMS = [*((name, "huggingface") for name in NAMES)]
FORMS += [(name, "gguf") for name in ("gpt2", "llama", "cohere", "deepseek_v3")]


def refusal_of(folder: Path, config: ModelConfig) -> str:
    try:
        open_adapter(folder, config)
    except ModelFormatError as error:
        return str(error)
    return ""


def taken(factors: Factors, config: ModelConfig, folder: Path) -> Factors:
    """Those modules that an adapter may change; all others are refused by name."""
    found = {}
    for name, pair in factors.items():
        if refusal := refusal_of(write_adapter(folder, {name: pair}), config):
            assert name in refusal
            assert "adapters may change linear layers" in refusal or "does not have" in refusal
        else:
            found[name] = pair
    return found


def check_as_if_merged(case: Case, form: str, tmp_path: Path) -> None:
    model = randomized(case)
    generator = torch.Generator().manual_seed(1)
    pairs = {name: random_pair(m, 4, generator) for name, m in linear_modules(model).items()}

    def write(where: str) -> Path:
        path = tmp_path / where
        if form == "gguf":
            assert case.gguf is not None
            return case.gguf(model, tmp_path / f"{where}.gguf")
        model.save_pretrained(path)
        return path

    path = write("base")
    factors = taken(pairs, open_checkpoint(path).config, tmp_path / "one")
    attending = {name for name in pairs if name.endswith(("q_proj", "query_key_value"))}
    assert attending <= factors.keys()
    folder = write_adapter(tmp_path / "adapter", factors, lora_alpha=6)
    base = load(path, max_adapters=1)
    merge(model, factors, dict.fromkeys(factors, 6 / 4))
    merged = load(write("merged"))
    adapter = open_adapter(folder, base.config)
    assert adapter.max_rank == 4
    assert base.adapters is not None
    with torch.inference_mode():
        plain = logits(base, TOKEN_IDS)
        base.adapters.load(1, adapter.factors())
        slots = torch.zeros(len(TOKEN_IDS), dtype=torch.int32)
        blocks = base._through_blocks
        base._through_blocks = lambda x, batch, *rest: blocks(
            x, replace(batch, adapter_slots=slots), *rest
        )
        adapted = logits(base, TOKEN_IDS)
        expected = logits(merged, TOKEN_IDS)
    torch.testing.assert_close(adapted, expected, atol=1e-4, rtol=1e-4)
    assert (plain - expected).abs().max() > 1e-2


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_as_if_merged(name: str, form: str, tmp_path: Path) -> None:
    check_as_if_merged(ALL[name], form, tmp_path)


def test_modules_that_a_layer_does_not_have(tmp_path: Path) -> None:
    """Gemma 4's layers that read others' keys project none, and some that have keys no values."""
    generator = torch.Generator().manual_seed(1)
    for name, layer, modules in (
        ("gemma4_text", 2, ("v_proj",)),
        ("gemma4_text-shared", 5, ("k_proj", "v_proj")),
    ):
        ALL[name].make().save_pretrained(tmp_path / name)
        config = open_checkpoint(tmp_path / name).config
        pair = random_pair(torch.nn.Linear(config.hidden_size, 48), 4, generator)
        for module in modules:
            factors = {f"model.layers.{layer}.self_attn.{module}": pair}
            folder = write_adapter(tmp_path / f"{name}-{module}", factors)
            assert "of a module that this model does not have" in refusal_of(folder, config)


@pytest.mark.prove
@pytest.mark.parametrize("name", sorted(ALL.keys() - set(NAMES)))
def test_every_architecture(name: str, tmp_path: Path) -> None:
    check_as_if_merged(ALL[name], "huggingface", tmp_path)

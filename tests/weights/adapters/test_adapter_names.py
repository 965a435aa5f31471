"""Adapters of transformers' module names, on models of other names and layouts: the logits are
those of a checkpoint with the product merged into its own tensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.architectures.cases import CASES, Case, randomized
from tests.architectures.classic_cases import CLASSIC
from tests.architectures.expert_cases import EXPERTS
from tests.architectures.running import load, logits
from tests.weights.adapters.peft_folder import linear_modules, merge, random_pair, write_adapter
from thirdeye.weights.adapters.adapter import open_adapter

TOKEN_IDS = [3, 1, 4, 1, 5, 9, 2, 6]
ALL = CASES | CLASSIC | EXPERTS
# Each way in which a file's rows are not the model's: merged, transposed, turned otherwise.
NAMES = ["gpt2", "llama", "qwen2", "gemma2", "phi3", "glm", "cohere", "olmo2", "gpt_neox", "falcon"]
NAMES += ["gptj", "bloom", "mpt", "opt", "phi", "mixtral"]


def is_expert(name: str) -> bool:
    return ".experts." in name or name.endswith((".gate", "block_sparse_moe.gate"))


# A base's own form changes nothing of its adapters, whose names are transformers': three say so.
FORMS = [*((name, "huggingface") for name in NAMES)]
FORMS += [(name, "gguf") for name in ("gpt2", "llama", "cohere")]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_as_if_merged(name: str, form: str, tmp_path: Path) -> None:
    case: Case = ALL[name]
    model = randomized(case)
    generator = torch.Generator().manual_seed(1)
    modules = {n: m for n, m in linear_modules(model).items() if not is_expert(n)}
    factors = {n: random_pair(module, 4, generator) for n, module in modules.items()}
    folder = write_adapter(tmp_path / "adapter", factors, lora_alpha=6)

    def write(where: str) -> Path:
        path = tmp_path / where
        if form == "gguf":
            assert case.gguf is not None
            return case.gguf(model, tmp_path / f"{where}.gguf")
        model.save_pretrained(path)
        return path

    base = load(write("base"), max_adapters=1)
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

"""Adapters as peft writes them: a folder of two files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

Factors = Mapping[str, tuple[Tensor, Tensor]]  # module -> A [rank, in], B [out, rank]

# `LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()` of peft 0.21.2.
PLAIN: dict[str, Any] = {
    "task_type": "CAUSAL_LM", "peft_type": "LORA", "auto_mapping": None, "peft_version": "0.21.2",
    "base_model_name_or_path": None, "revision": None, "inference_mode": True, "r": 4,
    "target_modules": ["q_proj"], "exclude_modules": None, "lora_alpha": 8, "lora_dropout": 0.0,
    "fan_in_fan_out": False, "bias": "none", "use_rslora": False, "modules_to_save": None,
    "init_lora_weights": True, "layers_to_transform": None, "layers_pattern": None,
    "rank_pattern": {}, "alpha_pattern": {}, "megatron_config": None,
    "megatron_core": "megatron.core", "trainable_token_indices": None, "loftq_config": {},
    "eva_config": None, "corda_config": None, "lora_ga_config": None, "use_dora": False,
    "velora_config": None, "alora_invocation_tokens": None, "use_qalora": False,
    "qalora_group_size": 16, "monteclora_config": None, "layer_replication": None,
    "lora_bias": False, "target_parameters": None, "use_bdlora": None, "arrow_config": None,
    "kasa_config": None, "ensure_weight_tying": False,
}  # fmt: skip


def write_adapter(path: Path, factors: Factors, **config: Any) -> Path:
    """`config` are keys of adapter_config.json that differ from a plain one."""
    path.mkdir(parents=True, exist_ok=True)
    names = sorted({module.rpartition(".")[2] for module in factors})
    said = PLAIN | {"target_modules": names} | config
    (path / "adapter_config.json").write_text(json.dumps(said))
    tensors = {
        f"base_model.model.{module}.lora_{which}.weight": tensor.contiguous()
        for module, pair in factors.items()
        for which, tensor in zip("AB", pair, strict=True)
    }
    save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt"})
    return path


def linear_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Those of its layers, as peft's "all-linear" finds them."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }


def random_pair(module: nn.Module, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of a size that says something."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    height, width = weight.shape[::-1] if isinstance(module, Conv1D) else weight.shape
    a = torch.randn(rank, width, generator=generator) * 0.1
    return a, torch.randn(height, rank, generator=generator) * 0.1


def merge(model: PreTrainedModel, factors: Factors, scales: Mapping[str, float]) -> None:
    """W + s B A into each module's weight, as peft's `merge_and_unload` does."""
    modules = linear_modules(model)
    with torch.no_grad():
        for name, (a, b) in factors.items():
            delta = scales[name] * (b @ a)
            weight = modules[name].weight
            assert isinstance(weight, Tensor)
            weight += delta.t() if isinstance(modules[name], Conv1D) else delta

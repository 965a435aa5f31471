"""Each key of adapter_config.json: obeyed, without effect on what is computed, or refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.model.tiny import LLAMA
from tests.weights.adapters.peft_folder import PLAIN, write_adapter
from thirdeye.weights.adapters.adapter import Adapter, open_adapter
from thirdeye.weights.adapters.adapter_config import HARMLESS, OBEYED
from thirdeye.weights.errors import ModelFormatError

Q, O_PROJ = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.o_proj"
FACTORS = {name: (torch.full((4, 32), 0.5), torch.full((32, 4), 0.25)) for name in (Q, O_PROJ)}
DIFFERENT: dict[str, Any] = {  # another value of each key, one that means something
    "task_type": "SEQ_CLS", "peft_type": "IA3", "auto_mapping": {"base_model_class": "X"},
    "peft_version": "0.1", "base_model_name_or_path": "org/base", "revision": "main",
    "inference_mode": False, "r": 8, "target_modules": ["v_proj"], "exclude_modules": ["o_proj"],
    "lora_alpha": 3, "lora_dropout": 0.5, "fan_in_fan_out": True, "bias": "all",
    "use_rslora": True, "modules_to_save": ["lm_head"], "init_lora_weights": "pissa_niter_4",
    "layers_to_transform": [1], "layers_pattern": "layers", "rank_pattern": {"q_proj": 5},
    "alpha_pattern": {"q_proj": 5}, "megatron_config": {"a": 1}, "megatron_core": "other",
    "trainable_token_indices": [1], "loftq_config": {"loftq_bits": 4}, "eva_config": {"rho": 2},
    "corda_config": {"a": 1}, "lora_ga_config": {"a": 1}, "use_dora": True,
    "velora_config": {"a": 1}, "alora_invocation_tokens": [1], "use_qalora": True,
    "qalora_group_size": 32, "monteclora_config": {"a": 1}, "layer_replication": [[0, 1]],
    "lora_bias": True, "target_parameters": ["w"], "use_bdlora": {"a": 1},
    "arrow_config": {"a": 1}, "kasa_config": {"a": 1}, "ensure_weight_tying": True,
}  # fmt: skip
CHANGES_SCALE = {"lora_alpha": 3 / 4, "use_rslora": 8 / math.sqrt(4), "alpha_pattern": 5 / 4}


def opened(path: Path, **config: Any) -> Adapter:
    return open_adapter(write_adapter(path, FACTORS, **config), LLAMA)


def scales(adapter: Adapter) -> list[float]:
    return [module.scale for module in adapter.modules]


def refusal_of(path: Path, **config: Any) -> str:
    try:
        opened(path, **config)
    except ModelFormatError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("key", PLAIN)
def test_every_key(key: str, tmp_path: Path) -> None:
    plain = opened(tmp_path)
    assert scales(plain) == [2, 2]
    if refusal := refusal_of(tmp_path, **{key: DIFFERENT[key]}):
        assert key in refusal or "must have the shape" in refusal
        assert key not in HARMLESS - {"peft_type", "init_lora_weights"}
    elif key in CHANGES_SCALE:
        assert CHANGES_SCALE[key] in scales(opened(tmp_path, **{key: DIFFERENT[key]}))
    else:
        assert key in HARMLESS
        assert scales(opened(tmp_path, **{key: DIFFERENT[key]})) == scales(plain)


def test_the_walk_is_whole() -> None:
    """What is harmless and what is obeyed are keys that peft writes, or has written."""
    assert DIFFERENT.keys() == PLAIN.keys()
    assert PLAIN.keys() | {"runtime_config"} >= HARMLESS | OBEYED
    assert all(DIFFERENT[key] != PLAIN[key] for key in PLAIN)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"some_new_key": 1}, "'some_new_key': is not supported (value 1): merge it"),
        ({"use_dora": True}, "'use_dora': is not supported (value True): merge it into its base"),
        ({"r": 257}, "'r': must be between 1 and 256, got 257"),
        ({"r": 0}, "'r': must be between 1 and 256, got 0"),
        ({"lora_alpha": float("inf")}, "'lora_alpha'"),
        ({"bias": "lora_only"}, "'bias': must be \"none\", got 'lora_only'"),
        ({"init_lora_weights": "olora"}, "'olora' changes the base's weights"),
        ({"target_modules": ["q_proj"]}, f"does not name {O_PROJ}"),
        ({"target_modules": r".*\.q_proj"}, f"does not name {O_PROJ}"),
        ({"target_modules": "(a+)+b"}, "repeats too much"),
        ({"target_modules": "((("}, "is no regular expression"),
        ({"target_modules": [1]}, "must be a list of module names"),
        ({"exclude_modules": r".*q_proj"}, f"names {Q}"),
        ({"rank_pattern": {"q_proj": 300}}, "'rank_pattern.q_proj': must be between 1 and 256"),
        ({"rank_pattern": {"x" * 2000: 3}}, "has 2,000 characters"),
        ({"rank_pattern": {"q_proj": 6}}, "must have the shape [6, 32], got [4, 32]"),
    ],
)
def test_what_is_refused(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError) as caught:
        opened(tmp_path, **config)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"some_new_key": None},
        {"some_new_key": False},
        {"target_modules": "all-linear"},
        {"target_modules": r"model\.layers\.\d\.self_attn\.(q|o)_proj"},
        {"target_modules": [Q, "self_attn.o_proj"]},
        {"layers_to_transform": [0, 1]},
        {"init_lora_weights": "gaussian"},
        {"task_type": None},
    ],
)
def test_what_is_plain_all_the_same(config: dict[str, Any], tmp_path: Path) -> None:
    assert scales(opened(tmp_path, **config)) == [2, 2]


def test_small_files_alone_are_read_while_others_stream(tmp_path: Path) -> None:
    """JSON is read in one piece, in the engine's process: 30 MB of it held every stream."""
    write_adapter(tmp_path, FACTORS)
    (tmp_path / "adapter_config.json").write_text(" " * (1 << 20) + "{}")
    with pytest.raises(ModelFormatError, match="limit is 1,048,576"):
        open_adapter(tmp_path, LLAMA)
    write_adapter(tmp_path, FACTORS)
    size = (1 << 21) + 1
    (tmp_path / "adapter_model.safetensors").write_bytes(size.to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelFormatError, match="limit is 2,097,152"):
        open_adapter(tmp_path, LLAMA)


def test_patterns_of_ranks_and_alphas(tmp_path: Path) -> None:
    """The first that fits the end of a module's name, as peft has it."""
    factors = {Q: FACTORS[Q], O_PROJ: (torch.ones(2, 32), torch.ones(32, 2))}
    write_adapter(
        tmp_path,
        factors,
        rank_pattern={"layers.1.self_attn.o_proj": 2, "o_proj": 9},
        alpha_pattern={"j": 100, r"self_attn\.(o|k)_proj": 3, "o_proj": 100},
    )
    adapter = open_adapter(tmp_path, LLAMA)
    assert {module.name: module.scale for module in adapter.modules} == {Q: 2, O_PROJ: 3 / 2}
    found = {one.layer: one for one in adapter.factors()}
    assert torch.equal(found["blocks.1.attention.output"].b, torch.full((32, 2), 1.5))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lm_head.lora_A.weight": (4, 32), "lm_head.lora_B.weight": (97, 4)}, "linear layers of"),
        ({"model.embed_tokens.lora_embedding_A": (4, 97)}, "is no factor of a linear layer"),
        ({f"{Q}.lora_A.weight": (4, 32)}, "has no lora_B beside it"),
        ({f"{Q}.lora_A.weight": (4, 31), f"{Q}.lora_B.weight": (32, 4)}, "shape [4, 32]"),
        ({f"{Q}.lora_A.weight": (4, 32), f"{Q}.lora_B.weight": (31, 4)}, "shape [32, 4]"),
        ({f"{Q}.lora_magnitude_vector": (32,)}, "is no factor of a linear layer"),
        ({"model.layers.7.mlp.up_proj.lora_A.weight": (4, 32),
          "model.layers.7.mlp.up_proj.lora_B.weight": (48, 4)}, "this model does not have"),
        ({}, "holds no tensors"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(
    tensors: dict[str, tuple[int, ...]], words: str, tmp_path: Path
) -> None:
    write_adapter(tmp_path, FACTORS, target_modules="all-linear")
    made = {f"base_model.model.{name}": torch.zeros(shape) for name, shape in tensors.items()}
    save_file(made, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelFormatError) as caught:
        open_adapter(tmp_path, LLAMA)
    assert words in str(caught.value)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="no such folder"):
        open_adapter(tmp_path / "gone", LLAMA)
    with pytest.raises(ModelFormatError, match=r"is no adapter: there is no adapter_config.json"):
        open_adapter(tmp_path, LLAMA)
    (tmp_path / "adapter_config.json").write_text(json.dumps(PLAIN))
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelFormatError, match=r"no adapter_model.safetensors. Save the adapter"):
        open_adapter(tmp_path, LLAMA)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    broken = torch.ones(32, 4)
    broken[3, 1] = math.nan
    write_adapter(tmp_path, {Q: (FACTORS[Q][0], broken)})
    with pytest.raises(ModelFormatError, match=r"not finite, of blocks.0.attention.qkv"):
        open_adapter(tmp_path, LLAMA).factors()

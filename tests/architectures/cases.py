"""Every architecture we read, as tiny models of transformers' own classes. A new one is rows here.

Sizes are such that two ranks can share each, that heads are no fraction of the hidden size, and
that query heads share key heads.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

from tests.architectures.gguf_forms import relative_gguf
from tests.weights.tiny import gpt2_gguf, llama_gguf
from thirdeye.model.config import ModelConfig

VOCAB_SIZE = 97
SIZES = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 128, "tie_word_embeddings": False,
}  # fmt: skip
TIED = {"tie_word_embeddings": True}
WriteGGUF = Callable[[Any, Path], Path]


@dataclass(frozen=True, slots=True)
class Case:
    """`gguf` writes the model as llama.cpp's converter does; None: the form cannot say it."""

    make: Callable[[], PreTrainedModel]
    gguf: WriteGGUF | None
    is_shared: bool = True  # whether two ranks can share it
    corrected: Callable[[Any], None] = lambda model: None  # of what transformers does not do right
    as_written: Callable[[ModelConfig], ModelConfig] = lambda config: config  # of a GGUF file's


def relative(
    model_type: str,
    *,
    gguf: WriteGGUF | None = llama_gguf,
    **changes: Any,
) -> Case:
    """A Llama or one of its many relatives: the same sizes by the same names."""

    def make() -> PreTrainedModel:
        config = CONFIG_MAPPING[model_type](**(SIZES | changes))
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        return model

    return Case(make, gguf)


llama, mistral = partial(relative, "llama"), partial(relative, "mistral")
qwen2, qwen3 = partial(relative, "qwen2"), partial(relative, "qwen3")
seed_oss = partial(relative, "seed_oss")
arcee = partial(relative, "arcee")


gemma, gemma2 = partial(relative, "gemma"), partial(relative, "gemma2")
gemma3 = partial(relative, "gemma3_text")
NO_TOKENS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
phi3 = partial(relative, "phi3", head_dim=8, **NO_TOKENS)
smollm3 = partial(relative, "smollm3", **NO_TOKENS)
granite = partial(relative, "granite")
olmo2 = partial(relative, "olmo2")
olmo3 = partial(relative, "olmo3", gguf=relative_gguf, num_hidden_layers=4)
ernie, exaone4 = partial(relative, "ernie4_5"), partial(relative, "exaone4", gguf=relative_gguf)
glm = partial(relative, "glm", gguf=relative_gguf, head_dim=8, pad_token_id=None)
glm4 = partial(relative, "glm4", gguf=relative_gguf, pad_token_id=None)
cohere = partial(relative, "cohere", gguf=relative_gguf, head_dim=8, **TIED)
cohere2 = partial(relative, "cohere2", gguf=relative_gguf, head_dim=8, **TIED)


starcoder2 = partial(relative, "starcoder2", gguf=relative_gguf)
stablelm = partial(relative, "stablelm", gguf=relative_gguf, head_dim=8, partial_rotary_factor=0.5)


ministral = partial(relative, "ministral", gguf=None)
jais2 = partial(relative, "jais2", gguf=relative_gguf, head_dim=8, **NO_TOKENS)
nanochat = partial(relative, "nanochat", gguf=None, num_attention_heads=4, **NO_TOKENS)
granite_swa = partial(relative, "granite_swa", gguf=None, head_dim=8, sliding_window=7, **NO_TOKENS)
hyperclovax = partial(relative, "hyperclovax", gguf=None)
helium, cwm = partial(relative, "helium", gguf=None), partial(relative, "cwm", gguf=None)
nemotron = partial(relative, "nemotron", gguf=relative_gguf)
hunyuan = partial(relative, "hunyuan_v1_dense", gguf=relative_gguf)
apertus = partial(relative, "apertus", gguf=relative_gguf)
ministral3 = partial(relative, "ministral3", gguf=relative_gguf)
internlm3 = partial(relative, "internlm3", gguf=relative_gguf)


def with_sinks_in_patterns(model: PreTrainedModel) -> None:
    """transformers scales what heads gave, and leaves what sinks took in the patterns it tells of;
    of gpt-oss, which computes the same, it does not."""
    module = import_module(type(model).__module__)
    own = module.eager_attention_forward
    if getattr(own, "has_sinks", False):
        return

    def attend(layer: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        given, _ = own(layer, *args, **kwargs)
        return given, eager_attention_forward(layer, *args, **kwargs)[1]

    attend.has_sinks = True  # type: ignore[attr-defined]
    module.eager_attention_forward = attend


def gpt2(*, gguf: WriteGGUF | None = gpt2_gguf, **changes: Any) -> Case:
    sizes = {"vocab_size": VOCAB_SIZE, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 128}
    return Case(lambda: GPT2LMHeadModel(GPT2Config(**(sizes | changes))), gguf)


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
WINDOW = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 8,
    "short_factor": [1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75],
    "long_factor": [2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
}  # fmt: skip
SHORT = {"original_max_position_embeddings": 128}
PHI3 = LONGROPE | {
    "short_factor": LONGROPE["short_factor"][:4], "long_factor": LONGROPE["long_factor"][:4],
}  # fmt: skip
PHI3_PART = LONGROPE | {
    "short_factor": [1.0, 1.5], "long_factor": [2.0, 5.0], "partial_rotary_factor": 0.5,
}  # fmt: skip
ORIGINAL = "original_max_position_embeddings"
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip
MINISTRAL3 = YARN | {
    "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.5,
}  # fmt: skip
NTK = {"rope_type": "dynamic", "rope_theta": 1e4, "alpha": 50.0, "factor": 1.0}
GEMMA2 = {"query_pre_attn_scalar": 16, "sliding_window": 7}
GEMMA3 = GEMMA2 | {"num_hidden_layers": 7}
GEMMA3_LAYERS = ["sliding_attention", "full_attention"] * 3 + ["full_attention"]
GEMMA3_ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
}
SCALES = {
    "embedding_multiplier": 1.5, "attention_multiplier": 0.3, "residual_multiplier": 0.4,
    "logits_scaling": 0.7,
}  # fmt: skip
CASES: dict[str, Case] = {
    "gpt2": gpt2(),
    "gpt2-untied": gpt2(gguf=None, tie_word_embeddings=False),
    "llama": llama(),
    "llama-tied": llama(**TIED),
    "llama-biases": llama(attention_bias=True, mlp_bias=True),
    "llama-gelu": llama(gguf=None, hidden_act="gelu"),
    "llama-yarn": llama(rope_parameters=YARN | {"original_max_position_embeddings": 32}),
    "llama-dynamic": llama(
        gguf=None, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    ),
    "llama-longrope": llama(gguf=None, rope_parameters=LONGROPE),
    "mistral": mistral(sliding_window=None),
    "mistral-window": mistral(gguf=None, sliding_window=7),
    "qwen2": qwen2(),
    "qwen2-tied": qwen2(**TIED),
    "qwen2-window": qwen2(gguf=None, **WINDOW),
    "qwen3": qwen3(),
    "qwen3-tied": qwen3(**TIED),
    "qwen3-biases": qwen3(attention_bias=True),
    "qwen3-window": qwen3(gguf=None, **WINDOW),
    "gemma": gemma(**TIED),
    "gemma2": gemma2(**TIED, **GEMMA2),
    "gemma2-uncapped": gemma2(
        gguf=None,
        **TIED,
        query_pre_attn_scalar=40,
        sliding_window=7,
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
    ),
    "vaultgemma": relative("vaultgemma", gguf=None, **TIED, **GEMMA2),
    "gemma3_text": gemma3(**TIED, **GEMMA3),
    "gemma3_text-linear": gemma3(
        gguf=None, **TIED, **GEMMA3, rope_parameters=GEMMA3_ROPES, layer_types=GEMMA3_LAYERS
    ),
    "phi3": phi3(),
    "phi3-long": phi3(rope_parameters=PHI3, original_max_position_embeddings=8),
    "phi3-part": phi3(rope_parameters=PHI3_PART, original_max_position_embeddings=8),
    "phi3-short": phi3(rope_parameters=PHI3 | SHORT, **SHORT),
    "phi3-window": phi3(gguf=None, sliding_window=7),
    "smollm3": smollm3(num_hidden_layers=5),
    "smollm3-listed": smollm3(gguf=None, no_rope_layers=[0, 1, 0], attention_bias=True),
    "granite": granite(
        embedding_multiplier=12.0,
        residual_multiplier=0.25,
        attention_multiplier=0.125,
        logits_scaling=2.0,
    ),
    "olmo2": olmo2(),
    "olmo3": olmo3(sliding_window=7),
    "olmo3-yarn": olmo3(
        sliding_window=7,
        rope_parameters={
            "full_attention": YARN | {"original_max_position_embeddings": 32},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
        },
    ),
    "ernie4_5": ernie(),
    "ernie4_5-biases": ernie(**TIED, use_bias=True),
    "glm": glm(),
    "glm-unbiased": glm(attention_bias=False),
    "glm4": glm4(),
    "exaone4": exaone4(
        sliding_window=None, sliding_window_pattern=0, layer_types=["full_attention"] * 3
    ),
    "exaone4-window": exaone4(num_hidden_layers=5, sliding_window=7),
    "cohere": cohere(logit_scale=0.5),
    "cohere-head-norms": cohere(use_qk_norm=True, logit_scale=0.5),
    "cohere-biases": cohere(attention_bias=True, logit_scale=0.5),
    "cohere2": cohere2(num_hidden_layers=5, sliding_window=7, logit_scale=0.5),
    "starcoder2": starcoder2(**TIED),
    "starcoder2-window": starcoder2(gguf=None, use_bias=False, sliding_window=7),
    "stablelm": stablelm(),
    "stablelm-head-norms": stablelm(qk_layernorm=True, use_parallel_residual=True),
    "stablelm-parallel": stablelm(use_qkv_bias=True, use_parallel_residual=True),
    "ministral3": ministral3(rope_parameters=MINISTRAL3),
    "ministral3-window": ministral3(gguf=None, rope_parameters=MINISTRAL3, sliding_window=7),
    "hunyuan_v1_dense": hunyuan(rope_parameters=NTK),
    "hunyuan_v1_dense-plain": hunyuan(attention_bias=True, **TIED),
    "nemotron": nemotron(**NO_TOKENS),
    "nemotron-biases": nemotron(attention_bias=True, mlp_bias=True, **NO_TOKENS),
    "apertus": apertus(rope_parameters=LLAMA3 | {ORIGINAL: 8192}, **NO_TOKENS),
    "apertus-stretched": apertus(gguf=None, rope_parameters=LLAMA3, **NO_TOKENS),
    "apertus-relu2": apertus(gguf=None, attention_bias=True, hidden_act="relu2", **NO_TOKENS),
    "ministral": ministral(sliding_window=7),
    "ministral-mixed": ministral(
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "jais2": jais2(),
    "jais2-unbiased": jais2(attention_bias=False, mlp_bias=False),
    "nanochat": nanochat(),
    "nanochat-uncapped": nanochat(attention_bias=True, final_logit_softcapping=None),
    "hyperclovax": hyperclovax(**SCALES),
    "hyperclovax-plain": hyperclovax(use_post_norm=False, attention_bias=True, **SCALES),
    "granite_swa": replace(
        granite_swa(layer_rope_theta=[0, 1e4, 5e3], attention_multiplier=0.3, **TIED),
        corrected=with_sinks_in_patterns,
    ),
    "granite_swa-biases": replace(
        granite_swa(attention_bias=True, mlp_bias=True, residual_multiplier=0.5),
        corrected=with_sinks_in_patterns,
    ),
    "helium": helium(head_dim=8, **NO_TOKENS),
    "helium-biases": helium(head_dim=8, attention_bias=True, mlp_bias=True, **NO_TOKENS),
    "internlm3": internlm3(),
    "internlm3-biases": internlm3(attention_bias=True, mlp_bias=True),
    "cwm": cwm(num_hidden_layers=5, sliding_window=7, rope_parameters=LLAMA3, bos_token_id=1),
    "iquestcoder": relative("iquestcoder", gguf=None, attention_bias=True),
    "seed_oss": seed_oss(),
    "seed_oss-biases": seed_oss(attention_out_bias=True, mlp_bias=True),
    "arcee": arcee(),
    "arcee-biases": arcee(attention_bias=True, mlp_bias=True),
}


def randomized(case: Case) -> PreTrainedModel:
    model = case.make().eval()
    case.corrected(model)
    randomize(model)
    return model


@torch.no_grad()
def randomize(model: PreTrainedModel) -> None:
    """Every parameter random, norms around 1; logits say something and stay small."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.15
        is_norm = parameter.dim() == 1 and name.endswith("weight")
        parameter.copy_(noise + 1 if is_norm else noise)

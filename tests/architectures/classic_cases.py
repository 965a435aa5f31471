"""The families from before Llama, each with the sizes that its config has names for."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from tests.architectures.cases import TIED, VOCAB_SIZE, Case, WriteGGUF
from tests.architectures.classic_gguf import classic_gguf

SIZES = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6,
    "max_position_embeddings": 128, "tie_word_embeddings": False,
}  # fmt: skip
NO_TOKENS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


def classic(
    model_type: str,
    *,
    gguf: WriteGGUF | None = classic_gguf,
    is_shared: bool = True,
    **changes: Any,
) -> Case:
    def make() -> PreTrainedModel:
        config = CONFIG_MAPPING[model_type](**(SIZES | NO_TOKENS | changes))
        # Falcon cannot change its attention later, and only this one has patterns to show.
        kind = {"attn_implementation": "eager"}
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **kind)
        return model

    return Case(make, gguf, is_shared)


def with_its_slopes(model: PreTrainedModel) -> None:
    """transformers always takes 8; the model's authors and llama.cpp read the setting."""
    most = model.config.attn_config.alibi_bias_max
    model.transformer.build_mpt_alibi_tensor = partial(build_mpt_alibi_tensor, alibi_bias_max=most)


def with_alibi_once(model: PreTrainedModel) -> None:
    """transformers' eager attention adds it twice, as itself and with the mask."""

    def without(_: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, kwargs | {"alibi": torch.zeros_like(kwargs["alibi"])}

    for layer in model.transformer.h:
        layer.self_attention.register_forward_pre_hook(without, with_kwargs=True)


neo = partial(
    classic, "gpt_neo", gguf=None, num_hidden_layers=4, attention_types=[[["global", "local"], 2]],
    window_size=7,
)  # fmt: skip
neox = partial(classic, "gpt_neox", intermediate_size=80)
codegen = partial(
    classic, "codegen", gguf=None, rotary_dim=4, n_inner=80, num_attention_heads=4, n_ctx=128
)
gptj = partial(classic, "gptj", gguf=None, rotary_dim=4, n_inner=80)
phi = partial(classic, "phi", intermediate_size=80)
bloom = partial(classic, "bloom", seq_length=128, **TIED)
mpt = partial(classic, "mpt", max_seq_len=128, **TIED)
opt = partial(classic, "opt", gguf=None, ffn_dim=80, **TIED)
falcon = partial(classic, "falcon", **TIED)
bigcode = partial(classic, "gpt_bigcode", **TIED)
olmo = partial(classic, "olmo", intermediate_size=80, num_key_value_heads=2)
GROUPS = {"new_decoder_architecture": True, "num_kv_heads": 2}

CLASSIC: dict[str, Case] = {
    "gpt_neo": neo(**TIED),
    "gpt_neo-untied": neo(intermediate_size=80, attention_types=[[["local"], 1], [["global"], 3]]),
    "gpt_neox": neox(rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5}),
    "gpt_neox-serial": neox(
        gguf=None,
        use_parallel_residual=False,
        attention_bias=False,
        hidden_act="gelu_fast",
        rope_parameters={"rope_theta": 1e3, "partial_rotary_factor": 1.0},
    ),
    "gptj": gptj(),
    "codegen": codegen(),
    "phi": phi(),
    "phi-groups": phi(num_key_value_heads=2),
    "opt": opt(),
    "opt-plain": opt(enable_bias=False, layer_norm_elementwise_affine=False),
    "opt-350m": opt(do_layer_norm_before=False, word_embed_proj_dim=24),
    "opt-unnormed": opt(_remove_final_layer_norm=True, tie_word_embeddings=False),
    "bloom": bloom(),
    "bloom-8": bloom(num_attention_heads=8, hidden_size=64),
    "mpt": mpt(),
    "mpt-clipped": replace(
        mpt(attn_config={"clip_qkv": 0.4, "alibi_bias_max": 4}),
        corrected=with_its_slopes,
    ),
    "mpt-scaled": mpt(gguf=None, attn_config={"softmax_scale": 0.3}),
    "falcon": falcon(is_shared=False),
    "falcon-groups": falcon(**GROUPS),
    "falcon-groups-one-norm": falcon(**GROUPS, num_ln_in_parallel_attn=1, ffn_hidden_size=80),
    "falcon-serial": falcon(gguf=None, multi_query=False, parallel_attn=False, bias=True),
    "falcon-rw": replace(
        falcon(gguf=None, multi_query=False, parallel_attn=False, bias=True, alibi=True),
        corrected=with_alibi_once,
    ),
    "gpt_bigcode": bigcode(is_shared=False),
    "gpt_bigcode-heads": bigcode(gguf=None, multi_query=False, n_inner=80),
    "olmo": olmo(),
    "olmo-clipped": olmo(clip_qkv=0.4),
}

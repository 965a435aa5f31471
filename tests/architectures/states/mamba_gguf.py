"""Models with Mamba-2's layers as llama.cpp's converters write them.

Of `conversion/granite.py`, `mamba.py`, `falcon_h1.py` and `nemotron.py` in llama.cpp's source.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedModel

from tests.architectures.expert_gguf import ALONE, STACKED, add_granite, add_stack
from tests.architectures.states.state_gguf import add_sizes
from tests.weights.tiny import LLAMA_NAMES, LLAMA_TOP, add, finished, permute

F32 = gguf.GGMLQuantizationType.F32
Kind = gguf.GGMLQuantizationType
KEPT = ("ssm_conv1d", "ssm_norm", "ssm_a", "ssm_d", "ffn_gate_inp")  # in 32 bits, whatever the rest
MIXER = {"in_proj": "ssm_in", "conv1d": "ssm_conv1d", "out_proj": "ssm_out", "norm": "ssm_norm"}
COLUMNS = {"A_log": "ssm_a", "D": "ssm_d"}


def put(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: Kind) -> None:
    is_kept = any(part in name for part in KEPT)
    add(writer, name, np.ascontiguousarray(values), F32 if is_kept else kind)


def add_ssm(
    writer: gguf.GGUFWriter, *, heads: int, head_size: int, groups: int, state: int, kernel: int
) -> None:
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_state_size(state)
    writer.add_ssm_group_count(groups)
    writer.add_ssm_inner_size(heads * head_size)
    writer.add_ssm_time_step_rank(heads)


def mixer_tensor(leaf: str, values: np.ndarray, num_groups: int) -> tuple[str, np.ndarray]:
    """One tensor of such a layer, by its name behind the module's."""
    stem, _, kind = leaf.rpartition(".")
    if leaf in COLUMNS:
        return COLUMNS[leaf], (-np.exp(values) if leaf == "A_log" else values)[:, None]
    if leaf == "dt_bias":
        return "ssm_dt.bias", values
    if stem == "conv1d" and kind == "weight":
        values = values[:, 0]
    if stem == "norm":
        values = values.reshape(num_groups, -1)
    return f"{MIXER[stem]}.{kind}", values


def granite_gguf(model: PreTrainedModel, path: Path, kind: Kind = F32) -> Path:
    config = model.config
    attends = [kind == "full_attention" for kind in config.layer_types]
    writer = gguf.GGUFWriter(path, "granite" if all(attends) else "granitehybrid")
    head_dim = config.hidden_size // config.num_attention_heads
    add_sizes(writer, config, head_dim)
    writer.add_vocab_size(config.vocab_size)
    add_granite(writer, config)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_scaling_finetuned(config.position_embedding_type == "rope")
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_expert_shared_feed_forward_length(config.shared_intermediate_size)
    kv_heads = config.num_key_value_heads
    writer.add_head_count_kv([kv_heads if does else 0 for does in attends])
    add_ssm(
        writer,
        heads=config.mamba_n_heads,
        head_size=config.mamba_d_head,
        groups=config.mamba_n_groups,
        state=config.mamba_d_state,
        kernel=config.mamba_d_conv,
    )
    if config.num_local_experts:
        writer.add_expert_count(config.num_local_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    for name, tensor in model.state_dict().items():
        if found := STACKED.match(name):
            add_stack(writer, f"blk.{found[1]}", found[2], tensor.numpy(), False, kind)
        elif name != "lm_head.weight" or not config.tie_word_embeddings:
            for written, values in _of_granite(config, name, tensor.numpy()):
                put(writer, written, values, kind)
    return finished(writer, path)


def _of_granite(config: Any, name: str, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    stem, _, leaf = name.rpartition(".")
    if stem in LLAMA_TOP:
        yield f"{LLAMA_TOP[stem]}.{leaf}", values
        return
    _, _, layer, rest = name.split(".", 3)
    block, module = f"blk.{layer}", rest.rpartition(".")[0]
    behind = "_shexp" if config.num_local_experts else ""
    if rest.startswith("mamba."):
        own, values = mixer_tensor(rest.removeprefix("mamba."), values, config.mamba_n_groups)
        yield f"{block}.{own}", values
    elif module == "shared_mlp.input_linear":
        gate, up = np.split(values, 2)
        yield f"{block}.ffn_gate{behind}.weight", gate
        yield f"{block}.ffn_up{behind}.weight", up
    elif module == "shared_mlp.output_linear":
        yield f"{block}.ffn_down{behind}.weight", values
    else:
        heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
        if module in ("self_attn.q_proj", "self_attn.k_proj"):
            values = permute(values, heads[module[10]])
        yield f"{block}.{(LLAMA_NAMES | ALONE)[module]}.{leaf}", values


def falcon_gguf(model: PreTrainedModel, path: Path, kind: Kind = F32) -> Path:
    """With all multipliers in the weights."""
    config = model.config
    writer = gguf.GGUFWriter(path, "falcon-h1")
    add_sizes(writer, config, config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_feed_forward_length(config.intermediate_size)
    add_ssm(
        writer,
        heads=config.mamba_n_heads,
        head_size=config.mamba_d_head,
        groups=config.mamba_n_groups,
        state=config.mamba_d_state,
        kernel=config.mamba_d_conv,
    )
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight" or not config.tie_word_embeddings:
            values = multiplied(config, name, tensor.numpy())
            put(writer, *_of_falcon(config, name, values), kind)
    return finished(writer, path)


def multiplied(config: Any, name: str, values: np.ndarray) -> np.ndarray:
    """As `FalconH1Model.modify_tensors` does, which has no rule for biases."""
    gate, down = config.mlp_multipliers
    before = config.attention_in_multiplier
    scales = {
        "down_proj": down, "gate_proj": gate, "k_proj": config.key_multiplier * before,
        "q_proj": before, "v_proj": before, "o_proj": config.attention_out_multiplier,
        "out_proj": config.ssm_out_multiplier, "lm_head": config.lm_head_multiplier,
        "embed_tokens": config.embedding_multiplier,
    }  # fmt: skip
    module = name.split(".")[-2]
    if module != "in_proj":
        return values * np.float32(scales.get(module, 1.0))
    width, shared = config.mamba_d_ssm, config.mamba_n_groups * config.mamba_d_state
    heights = [width, width, shared, shared, config.mamba_n_heads]
    by_row = np.repeat(np.float32(config.ssm_multipliers), heights)
    return values * by_row[:, None] * np.float32(config.ssm_in_multiplier)


FALCON_NAMES = LLAMA_NAMES | {
    "pre_ff_layernorm": "ffn_norm", "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up", "feed_forward.down_proj": "ffn_down",
}  # fmt: skip
FALCON_TOP = LLAMA_TOP | {"model.final_layernorm": "output_norm"}


def _of_falcon(config: Any, name: str, values: np.ndarray) -> tuple[str, np.ndarray]:
    stem, _, leaf = name.rpartition(".")
    if stem in FALCON_TOP:
        return f"{FALCON_TOP[stem]}.{leaf}", values
    _, _, layer, rest = name.split(".", 3)
    if rest.startswith("mamba."):
        own, values = mixer_tensor(rest.removeprefix("mamba."), values, config.mamba_n_groups)
        return f"blk.{layer}.{own}", values
    return f"blk.{layer}.{FALCON_NAMES[rest.rpartition('.')[0]]}.{leaf}", values


NEMOTRON_NAMES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "up_proj": "ffn_up", "down_proj": "ffn_down", "gate": "ffn_gate_inp",
    "shared_experts.up_proj": "ffn_up_shexp", "shared_experts.down_proj": "ffn_down_shexp",
}  # fmt: skip
NEMOTRON_TOP = {"model.embeddings": "token_embd", "model.norm_f": "output_norm"}
NEMOTRON_TOP |= {"lm_head": "output"}


def nemotron_gguf(model: PreTrainedModel, path: Path, kind: Kind = F32) -> Path:
    config = model.config
    kinds = config.layers_block_type
    has_experts = "moe" in kinds
    writer = gguf.GGUFWriter(path, "nemotron_h_moe" if has_experts else "nemotron_h")
    add_sizes(writer, config, config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_scaling_finetuned(False)
    kv_heads = config.num_key_value_heads
    writer.add_head_count_kv([kv_heads if kind == "full_attention" else 0 for kind in kinds])
    which, width = "mlp", config.intermediate_size
    if has_experts:
        which, width = "moe", config.moe_intermediate_size
        writer.add_expert_feed_forward_length(width)
        writer.add_expert_shared_feed_forward_length(config.moe_shared_expert_intermediate_size)
        writer.add_expert_count(config.n_routed_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_shared_count(config.n_shared_experts)
        writer.add_expert_weights_norm(config.norm_topk_prob)
        writer.add_expert_weights_scale(config.routed_scaling_factor)
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)
    writer.add_feed_forward_length([width if kind == which else 0 for kind in kinds])
    add_ssm(
        writer,
        heads=config.mamba_num_heads,
        head_size=config.mamba_head_dim,
        groups=config.n_groups,
        state=config.ssm_state_size,
        kernel=config.conv_kernel,
    )
    for name, tensor in model.state_dict().items():
        written, values = _of_nemotron(config, name, tensor.numpy())
        put(writer, written, values, kind)
    return finished(writer, path)


def _of_nemotron(config: Any, name: str, values: np.ndarray) -> tuple[str, np.ndarray]:
    stem, _, leaf = name.rpartition(".")
    if stem in NEMOTRON_TOP:
        return f"{NEMOTRON_TOP[stem]}.{leaf}", values
    _, _, layer, rest = name.split(".", 3)
    block, own = f"blk.{layer}", rest.removeprefix("mixer.")
    module = own.rpartition(".")[0]
    if rest == "norm.weight":
        return f"{block}.attn_norm.weight", values
    if own == "gate.e_score_correction_bias":
        return f"{block}.exp_probs_b.bias", values
    if module == "experts":
        return f"{block}.ffn_{leaf.partition('_')[0]}_exps.weight", values
    if module in NEMOTRON_NAMES:
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        values = permute(values, heads[module]) if module in heads else values
        return f"{block}.{NEMOTRON_NAMES[module]}.{leaf}", values
    written, values = mixer_tensor(own, values, config.n_groups)
    return f"{block}.{written}", values

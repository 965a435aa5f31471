"""Tiny models of transformers' classes that see or hear, each with what its class insists on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as SEEING,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES as HEARING,
)

from tests.architectures.cases import MINISTRAL3

Settings = dict[str, Any]
TEXT: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SMALL: dict[str, Any] = {  # of the other senses, by whatever name their classes have for it
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "depth": 1,
    "num_heads": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "attention_heads": 2,
    "out_hidden_size": 32, "num_position_embeddings": 16, "image_size": 28, "patch_size": 14,
    "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "d_model": 16,
    "mlp_dim": 16, "num_layers": 1, "num_global_layers": 1, "output_dim": 32, "hidden_dim": 16,
    "projection_dim": 16, "embed_dim": 8, "num_embeddings": 16, "base_channels": 32,
    "latent_channels": 8, "output_channels": 8, "num_pos_feats": 8, "vocab_size": 64,
    "window_size": 14, "num_patches": 4, "head_dim": 8, "position_embedding_size": 16,
    "mm_embed_dim": 32, "mm_posemb_size": 8, "output_proj_dims": 32, "audio_embed_dim": 16,
    "text_hidden_size": 32, "vision_output_dim": 48, "encoder_hidden_size": 16,
    "max_source_positions": 16, "downsample_hidden_size": 8, "max_img_size": 28,
    "num_cls_tokens": 1, "num_registers": 1, "max_aspect_ratio_id": 2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Whole:
    """`parts`, `top`: settings of other parts by their keys, and of the whole."""

    text: str
    settings: Settings = field(default_factory=dict)  # of the text part; None: not told
    parts: Mapping[str, Settings] = field(default_factory=dict)
    top: Settings = field(default_factory=dict)


def rope(*section: int, **more: Any) -> dict[str, Any]:
    plain = {"rope_type": "default", "rope_theta": 500.0, "mrope_section": list(section)}
    return {"rope_parameters": plain | more}


EYES = "vision_config"
CLIP = {EYES: {"model_type": "clip_vision_model"}}
SIGLIP = {EYES: {"model_type": "siglip_vision_model"}}
PIXTRAL = {EYES: {"model_type": "pixtral"}}
GRID = {"image_grid_pinpoints": [[28, 28]]}
WINDOW = {"sliding_window": 7, "head_dim": 16, "num_hidden_layers": 6}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "head_dim": 8,
}  # fmt: skip
SPARSE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
DEEP: dict[str, Settings] = {EYES: {"deepstack_visual_indexes": [0]}}
HALF = rope(1, 1, 0, partial_rotary_factor=0.5)
GEMMA4 = WINDOW | {
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 96, "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 3, "global_head_dim": 24,
}  # fmt: skip
MINICPM = Whole(
    "qwen3_5_text", DELTA, {EYES: {"insert_layer_id": 0, "hidden_size": 32}}, {"insert_layer_id": 0}
)
MAMBA = {
    "layers_block_type": ["mamba", "attention", "mlp"], "mamba_num_heads": 4, "mamba_head_dim": 8,
    "ssm_state_size": 8, "n_groups": 2, "num_hidden_layers": None,
}  # fmt: skip
GLM = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1,
    "topk_group": 1, "head_dim": 8,
}  # fmt: skip
LATENT = {
    "q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "first_k_dense_replace": 1, "num_key_value_heads": 4,
}  # fmt: skip
NARROW = {"projector_hidden_size": 16}
OMNI: dict[str, Settings] = {"audio_config": {"output_dim": 32}}
WHOLES = {
    "gemma3": Whole(
        "gemma3_text", WINDOW | {"query_pre_attn_scalar": 16}, SIGLIP, {"mm_tokens_per_image": 1}
    ),
    "gemma4": Whole("gemma4_text", GEMMA4),
    "gemma4_unified": Whole(
        "gemma4_unified_text",
        WINDOW | {"global_head_dim": 24},
        {
            EYES: {
                "patch_size": 2,
                "mm_embed_dim": 32,
                "mm_posemb_size": 8,
                "output_proj_dims": 32,
            },
            "audio_config": {"audio_embed_dim": 16},
        },
    ),
    "mistral3": Whole("mistral", WINDOW, PIXTRAL),
    "llava": Whole("llama", {}, CLIP),
    "llava_next": Whole("llama", {}, CLIP, GRID),
    "llava_next_video": Whole("llama", {}, CLIP, GRID),
    "llava_onevision": Whole("qwen2", {}, SIGLIP, GRID),
    "vipllava": Whole("llama", {}, CLIP, {"vision_feature_layers": [-1]}),
    "video_llava": Whole("llama", {}, CLIP),
    "video_llama_3": Whole("qwen2"),
    "idefics2": Whole(
        "mistral",
        {},
        {
            "perceiver_config": {
                "hidden_size": 32,
                "resampler_n_latents": 2,
                "resampler_depth": 1,
                "resampler_n_heads": 2,
                "resampler_head_dim": 8,
            }
        },
    ),
    "lfm2_vl": Whole(
        "lfm2", {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3}, {}, NARROW
    ),
    "deepseek_vl": Whole("llama", {}, SIGLIP),
    "deepseek_vl_hybrid": Whole(
        "llama", {}, SIGLIP | {"high_res_vision_config": {"global_attn_indexes": [0]}}
    ),
    "janus": Whole("llama", {}, {"vq_config": {"channel_multiplier": [1], "num_res_blocks": 1}}),
    "idefics3": Whole("llama"),
    "smolvlm": Whole("llama"),
    "internvl": Whole("qwen2", {}, {EYES: {"image_size": [28, 28], "patch_size": [14, 14]}}),
    "qwen3_5": Whole("qwen3_5_text", DELTA),
    "qwen3_5_moe": Whole(
        "qwen3_5_moe_text", DELTA | SPARSE | {"shared_expert_intermediate_size": 16}
    ),
    "qwen2_vl": Whole("qwen2_vl_text", rope(1, 1, 2), {EYES: {"hidden_size": 32}}),
    "qwen2_5_vl": Whole("qwen2_5_vl_text", rope(1, 1, 2)),
    "qwen3_vl": Whole(
        "qwen3_vl_text", {"head_dim": 8} | rope(1, 1, 2, mrope_interleaved=True), DEEP
    ),
    "qwen3_vl_moe": Whole("qwen3_vl_moe_text", {"head_dim": 8} | SPARSE | rope(1, 1, 2), DEEP),
    "glm4v": Whole("glm4v_text", HALF),
    "glm46v": Whole("glm4v_text", HALF),
    "glmga": Whole("glm4v_text", rope(1, 1, 2)),
    "glm_ocr": Whole("glm_ocr_text", {"head_dim": 8} | rope(1, 1, 2)),
    "glm4v_moe": Whole("glm4v_moe_text", GLM | HALF),
    "cohere2_vision": Whole("cohere2", {}, SIGLIP, {"alignment_intermediate_size": 16}),
    "aya_vision": Whole("cohere2", {}, SIGLIP),
    "lighton_ocr": Whole("qwen3", {"head_dim": 8}, PIXTRAL),
    "got_ocr2": Whole("qwen2", {}, {EYES: {"global_attn_indexes": []}}),
    "pp_chart2table": Whole("qwen2", {}, {EYES: {"global_attn_indexes": []}}),
    "paddleocr_vl": Whole("paddleocr_vl_text", {"head_dim": 8} | rope(1, 1, 2)),
    "ovis2": Whole("qwen2", {}, {}, {"hidden_size": 32}),
    "exaone4_5": Whole("exaone4"),
    "llama4": Whole(
        "llama4_text",
        {"num_local_experts": 2, "head_dim": 8, "intermediate_size_mlp": 48},
        {EYES: {"projector_input_dim": 16, "projector_output_dim": 16}},
    ),
    "hunyuan_vl": Whole(
        "hunyuan_vl_text",
        {"head_dim": 8} | rope(1, 1, 1, 1, rope_type="dynamic", alpha=10.0, factor=1.0),
    ),
    "granite4_vision": Whole(
        "granite4_vision_text",
        {},
        {EYES: {"hidden_size": 64, "model_type": "clip_vision_model"}},
        {"deepstack_layer_map": [[0, 0]], "downsample_rate": "1/2", "spatial_target_layers": [0]}
        | GRID,
    ),
    "granite_docling": Whole("granite_docling_text", {"residual_multiplier": 1.0}, DEEP),
    "minicpmv4_6": MINICPM,
    "minicpmv4_7": MINICPM,
    "minicpm_ocr": MINICPM,
    "nemotron_h_omni": Whole("nemotron_h", MAMBA, {EYES: {"video_temporal_patch_size": 2}}, NARROW),
    "qianfan_ocr": Whole(
        "qwen3", {"head_dim": 8}, {EYES: {"image_size": [28, 28], "patch_size": [14, 14]}}
    ),
    "kimi_k25": Whole("deepseek_v3", GLM | LATENT, {}, {"projection_hidden_size": 16}),
    "mllama": Whole(
        "mllama_text_model", {"num_hidden_layers": 5, "cross_attention_layers": [1, 3]}
    ),
    "qwen2_audio": Whole("qwen2"),
    "voxtral": Whole("llama", {"head_dim": 8}),
    "audioflamingo3": Whole("qwen2"),
    "musicflamingo": Whole("qwen2"),
    "glmasr": Whole("llama"),
    "qwen3_asr": Whole("qwen3", {"head_dim": 8}),
    "granite_speech": Whole("granite"),
    "granite_speech_plus": Whole("granite"),
    "qwen2_5_omni_thinker": Whole("qwen2_5_omni_text", rope(1, 1, 2), OMNI),
    "qwen3_omni_moe_thinker": Whole(
        "qwen3_omni_moe_text", {"head_dim": 8} | SPARSE | rope(1, 1, 2), OMNI | DEEP
    ),
}
VARIANTS = {
    "mistral3-ministral3": Whole(
        "ministral3",
        WINDOW | {"sliding_window": None, "rope_parameters": MINISTRAL3},
        PIXTRAL,
    ),
    "llava_next-granite": Whole("granite", {}, SIGLIP, GRID),
    "llava-phi3": Whole("phi3", {}, CLIP),
}


def make(name: str) -> PreTrainedModel:
    """Every parameter random."""
    config = config_of(name)
    model_type = name.partition("-")[0]
    known = SEEING | HEARING
    names = known.get(model_type) or type(config).__name__.replace(
        "Config", "ForConditionalGeneration"
    )
    model: Any = getattr(transformers, names if isinstance(names, str) else names[0])(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    found: PreTrainedModel = model.eval()
    return found


def config_of(name: str) -> Any:
    whole = (WHOLES | VARIANTS)[name]
    made: Any = CONFIG_MAPPING[name.partition("-")[0]]
    plain = made()
    text = TEXT | {"model_type": whole.text} | whole.settings
    parts = {"text_config": {key: value for key, value in text.items() if value is not None}}
    for key in made.sub_configs.keys() - {"text_config"}:
        if getattr(plain, key, None) is not None or key in whole.parts:
            parts[key] = _small(getattr(plain, key), whole.parts.get(key, {}))
    ids = [key for key in plain.to_dict() if key.endswith(("_token_id", "_token_index"))]
    tokens = {key: 95 - i for i, key in enumerate(ids) if key[:3] not in ("pad", "bos", "eos")}
    return made(**parts, **tokens, **whole.top)


def _small(part: Any, settings: Settings) -> dict[str, Any]:
    if part is None:
        return dict(settings)
    kind: str = settings.get("model_type", part.model_type)
    known = CONFIG_MAPPING[kind]().to_dict() if kind in CONFIG_MAPPING else part.to_dict()
    small: Settings = {key: SMALL[key] for key in known if key in SMALL and known[key] is not None}
    return small | {"model_type": kind} | settings

"""Which wholes there are. A row is a `model_type` whose answer to text alone is the text model's,
by the names that transformers gives its parts; what the whole would do with a picture is not asked.
"""

from thirdeye.weights.architectures.wrappers.rebuilt import (
    behind,
    layers_also,
    with_even_heads,
    with_stacked_experts,
    without_biases,
    without_cross_attention,
)
from thirdeye.weights.architectures.wrappers.wrapper import EYES, Wrapper

NEWLINE = (*EYES, "image_newline")
SENSES = ("vision_tower.", "audio_tower.", "embed_vision.", "embed_audio.", "vision_embedder.")
IDEFICS = ("vision_model.", "connector.")

# Three positions a token, of which text has three times the same: each section of channels is
# turned by its own, so all are turned as by one.
QWEN2_VL = {
    "vocab_size": 152064,
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "max_window_layers": 80,
    "rope_theta": 1e6,
}
QWEN3_VL = {"max_position_embeddings": 128000, "rope_theta": 500000.0}
QWEN3_VL_EXPERTS = QWEN3_VL | {
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 1408,
    "intermediate_size": 5632,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 128,
    "norm_topk_prob": True,
}
QWEN2_OMNI = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rope_theta": 1e6,
}
QWEN3_OMNI = {
    "vocab_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "norm_topk_prob": True,
    "rope_theta": 1e6,
}
GLM = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "partial_rotary_factor": 1.0}
GLM_OCR = {
    "vocab_size": 59392,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "partial_rotary_factor": 1.0,
    "attention_bias": False,
}
GLM_EXPERTS = {
    "vocab_size": 151424,
    "max_position_embeddings": 65536,
    "attention_bias": True,
}
GRANITE_DOCLING = {
    "vocab_size": 133800,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "attention_multiplier": 0.015625,
    "embedding_multiplier": 12.0,
    "logits_scaling": 4.0,
    "residual_multiplier": 0.263,
}
PADDLE = {
    "vocab_size": 103424,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 18,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
}
MLLAMA = {
    "vocab_size": 128256,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
}
VISUAL = ("visual.",)
GLM4V = Wrapper(
    *("glm4v_text", False, VISUAL, {"glm4v_text": "glm4"}, GLM), rebuild=with_even_heads
)
EARS = ("audio_tower.", "multi_modal_projector.")
SPEECH = ("encoder.", "projector.")
OMNI = ("thinker.audio_tower.", "thinker.visual.", "talker.", "token2wav.", "code2wav.")
MINICPM = ("vision_tower.", "vit_merger.", "merger.")
SEEING = {
    "qwen2_vl": Wrapper(
        *("qwen2_vl_text", False, VISUAL, {"qwen2_vl_text": "qwen2"}, QWEN2_VL),
        is_flat=True,
    ),
    "qwen2_5_vl": Wrapper(
        *("qwen2_5_vl_text", False, VISUAL, {"qwen2_5_vl_text": "qwen2"}, QWEN2_VL),
        is_flat=True,
    ),
    "qwen3_vl": Wrapper("qwen3_vl_text", False, VISUAL, {"qwen3_vl_text": "qwen3"}, QWEN3_VL),
    "qwen3_vl_moe": Wrapper(
        *("qwen3_vl_moe_text", False, VISUAL),
        *({"qwen3_vl_moe_text": "qwen3_moe"}, QWEN3_VL_EXPERTS),
        rebuild=with_stacked_experts,
    ),
    "qwen3_5": Wrapper("qwen3_5_text", is_tied=False, others=VISUAL),
    "qwen3_5_moe": Wrapper("qwen3_5_moe_text", is_tied=False, others=VISUAL),
    "glm4v": GLM4V,
    "glm46v": GLM4V,
    "glmga": GLM4V,
    "glm_ocr": Wrapper(
        *("glm_ocr_text", False, VISUAL, {"glm_ocr_text": "glm4"}, GLM_OCR),
        rebuild=with_even_heads,
    ),
    "glm4v_moe": Wrapper(
        "glm4v_moe_text", False, VISUAL, {"glm4v_moe_text": "glm4_moe"}, GLM_EXPERTS
    ),
    # transformers leaves `logit_scale` out of the whole; it is the text model's, and vLLM has it.
    "cohere2_vision": Wrapper("cohere2", is_tied=True),
    "aya_vision": Wrapper("cohere2", is_tied=True),
    "gemma3": Wrapper("gemma3_text", is_tied=True),
    "gemma4": Wrapper("gemma4_text", is_tied=True, others=SENSES),
    "gemma4_unified": Wrapper("gemma4_unified_text", is_tied=True, others=SENSES),
    "mistral3": Wrapper("mistral", is_tied=True),
    "mllama": Wrapper(
        "mllama_text_model",
        None,
        ("vision_model.", "multi_modal_projector."),
        {"mllama_text_model": "llama"},
        MLLAMA,
        rebuild=without_cross_attention,
    ),
    "llama4": Wrapper("llama4_text", False, ("vision_model.", "multi_modal_projector.")),
    "llava": Wrapper("llama", is_tied=False),
    "llava_next": Wrapper("llama", is_tied=False, others=NEWLINE),
    "llava_next_video": Wrapper("llama", is_tied=False, others=NEWLINE),
    "llava_onevision": Wrapper("qwen2", is_tied=False, others=NEWLINE),
    "vipllava": Wrapper("llama", is_tied=False),
    "video_llava": Wrapper("llama", False, ("image_tower.", "video_tower.", *EYES)),
    "video_llama_3": Wrapper("qwen2", False, ("vision_model.", "projector.")),
    "idefics2": Wrapper("mistral", is_tied=False, others=IDEFICS),
    "idefics3": Wrapper("llama", is_tied=False, others=IDEFICS),
    "smolvlm": Wrapper("llama", is_tied=False, others=IDEFICS),
    "internvl": Wrapper("qwen2", is_tied=True),
    "lfm2_vl": Wrapper("lfm2", is_tied=True),
    "deepseek_vl": Wrapper("llama", is_tied=True, others=("vision_model.", "aligner.")),
    "deepseek_vl_hybrid": Wrapper(
        *("llama", True),
        ("vision_model.", "high_res_vision_", "aligner."),
    ),
    "janus": Wrapper(
        *("llama", True),
        ("vision_model.", "aligner.", "vqmodel.", "generation_"),
    ),
    "lighton_ocr": Wrapper("qwen3", is_tied=True, others=("vision_encoder.", "vision_projection.")),
    "got_ocr2": Wrapper("qwen2", is_tied=True),
    "pp_chart2table": Wrapper("qwen2", is_tied=True),
    "paddleocr_vl": Wrapper(
        *("paddleocr_vl_text", True, ("visual.", "mlp_AR.", "projector.")),
        *({"paddleocr_vl_text": "llama"}, PADDLE),
        rebuild=without_biases,
    ),
    "ovis2": Wrapper("qwen2", True, ("vision_tower.", "visual_embeddings_table.")),
    "fast_vlm": Wrapper("qwen2", is_tied=False),
    "perception_lm": Wrapper("llama", is_tied=False),
    "exaone4_5": Wrapper("exaone4", False, VISUAL),
    "hunyuan_vl": Wrapper(
        *("hunyuan_vl_text", True, ("vit.", "vision_tower.")),
        {"hunyuan_vl_text": "hunyuan_v1_dense"},
    ),
    "granite4_vision": Wrapper(
        *(
            "granite4_vision_text",
            False,
            (*NEWLINE, "layerwise_projectors.", "spatial_projectors."),
        ),
        {"granite4_vision_text": "granite"},
    ),
    "granite_docling": Wrapper(
        *("granite_docling_text", True, ("vision_model.", "connector.")),
        *({"granite_docling_text": "granite"}, GRANITE_DOCLING),
    ),
    "minicpmv4_6": Wrapper("qwen3_5_text", False, MINICPM),
    "minicpmv4_7": Wrapper("qwen3_5_text", False, MINICPM),
    "minicpm_ocr": Wrapper("qwen3_5_text", True, MINICPM),
    "qianfan_ocr": Wrapper(
        *("qwen3", False, ("vision_model.", "mlp1.", *EYES)), rebuild=layers_also("encoder.layers.")
    ),
    "internvl_chat": Wrapper(  # InternVL's own code; transformers has it as `internvl`
        *("qwen2", None, ("vision_model.", "mlp1.")), text_key="llm_config"
    ),
    "kimi_k25": Wrapper(
        *("deepseek_v3", True, ("vision_tower.", "mm_projector.")), rebuild=layers_also("blocks.")
    ),
    "nemotron_h_omni": Wrapper(
        *("nemotron_h", None), ("vision_model.", "mlp1.", "sound_encoder.", "sound_projection.")
    ),
}
HEARING = {
    "qwen2_audio": Wrapper("qwen2", None, EARS),
    "voxtral": Wrapper("llama", None, EARS),
    "audioflamingo3": Wrapper("qwen2", None, EARS),
    "musicflamingo": Wrapper("qwen2", None, EARS),
    "glmasr": Wrapper("llama", True, EARS),
    "qwen3_asr": Wrapper("qwen3", True, EARS),
    "granite_speech": Wrapper("granite", True, SPEECH),
    "granite_speech_plus": Wrapper("granite", True, SPEECH),
    "qwen2_5_omni": Wrapper(
        *("qwen2_5_omni_text", False, OMNI, {"qwen2_5_omni_text": "qwen2"}, QWEN2_OMNI),
        within="thinker_config",
        rebuild=behind("thinker."),
    ),
    "qwen3_omni_moe": Wrapper(
        *("qwen3_omni_moe_text", False, OMNI, {"qwen3_omni_moe_text": "qwen3_moe"}, QWEN3_OMNI),
        within="thinker_config",
        rebuild=behind("thinker."),
    ),
}
WRAPPERS = SEEING | HEARING

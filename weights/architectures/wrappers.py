"""Models that see or hear beside a text model, which alone is served: its settings stand in
`text_config`, in older files beside all others, and what belongs to the other senses is left where
it is.

A row here is a `model_type` whose answer to text alone is the text model's, by the names that
transformers gives its parts; what the whole would do with a picture is not asked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from thirdeye.weights.formats.fields import Fields

EYES = ("vision_tower.", "multi_modal_projector.")
NEWLINE = (*EYES, "image_newline")
SENSES = ("vision_tower.", "audio_tower.", "embed_vision.", "embed_audio.", "vision_embedder.")
SECTIONS = ("mrope_section", "mrope_interleaved")
IDEFICS = ("vision_model.", "connector.")


@dataclass(frozen=True, slots=True)
class Wrapper:
    """`text`, `is_tied`: what transformers' class takes where the file does not say."""

    text: str  # the text part's `model_type`
    is_tied: bool  # whether the head is the embeddings, which is said for the whole
    others: tuple[str, ...] = EYES  # how names begin that are not the text part's
    plain: Mapping[str, str] = field(default_factory=dict)  # text parts that are read as another's
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of these, where they differ
    is_flat: bool = False  # older files have the text part's settings beside all others

    @property
    def unread(self) -> tuple[str, ...]:
        return tuple(prefix + part for prefix in ("", "model.") for part in self.others)


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
WRAPPERS = {
    "qwen2_vl": Wrapper(
        *("qwen2_vl_text", False, ("visual.",), {"qwen2_vl_text": "qwen2"}, QWEN2_VL),
        is_flat=True,
    ),
    "qwen2_5_vl": Wrapper(
        *("qwen2_5_vl_text", False, ("visual.",), {"qwen2_5_vl_text": "qwen2"}, QWEN2_VL),
        is_flat=True,
    ),
    "qwen3_vl": Wrapper("qwen3_vl_text", False, ("visual.",), {"qwen3_vl_text": "qwen3"}, QWEN3_VL),
    # transformers leaves `logit_scale` out of the whole; it is the text model's, and vLLM has it.
    "cohere2_vision": Wrapper("cohere2", is_tied=True),
    "aya_vision": Wrapper("cohere2", is_tied=True),
    "gemma3": Wrapper("gemma3_text", is_tied=True),
    "gemma4": Wrapper("gemma4_text", is_tied=True, others=SENSES),
    "gemma4_unified": Wrapper("gemma4_unified_text", is_tied=True, others=SENSES),
    "mistral3": Wrapper("mistral", is_tied=True),
    "llava": Wrapper("llama", is_tied=False),
    "llava_next": Wrapper("llama", is_tied=False, others=NEWLINE),
    "llava_onevision": Wrapper("qwen2", is_tied=False, others=NEWLINE),
    "vipllava": Wrapper("llama", is_tied=False),
    "idefics2": Wrapper("mistral", is_tied=False, others=IDEFICS),
    "idefics3": Wrapper("llama", is_tied=False, others=IDEFICS),
    "smolvlm": Wrapper("llama", is_tied=False, others=IDEFICS),
    "internvl": Wrapper("qwen2", is_tied=True),
    "qwen3_5": Wrapper("qwen3_5_text", is_tied=False, others=("visual.",)),
    "qwen3_5_moe": Wrapper("qwen3_5_moe_text", is_tied=False, others=("visual.",)),
    "lfm2_vl": Wrapper("lfm2", is_tied=True),
    "deepseek_vl": Wrapper("llama", is_tied=True, others=("vision_model.", "aligner.")),
    "lighton_ocr": Wrapper("qwen3", is_tied=True, others=("vision_encoder.", "vision_projection.")),
}


def text_part(fields: Fields) -> tuple[Fields, tuple[str, ...]]:
    """Of a config.json: the settings of the model that reads and writes text, which may be one of
    several, and how the names of all other tensors begin. Raises `ModelFormatError` for a whole
    that is not known."""
    wrapper = WRAPPERS.get(fields.text("model_type"))
    text = fields.nested("text_config")
    if wrapper is None:
        if text is None:
            return fields, ()
        served = ", ".join(WRAPPERS)
        problem = f"'{fields.text('model_type'):.60}' is not supported; of models that also see or "
        raise fields.error("model_type", f"{problem}hear, the text part is served of {served}.")
    if text is None and not wrapper.is_flat:
        raise fields.error("text_config", "is required and missing.")
    if text is None:
        text = replace(fields, values={**fields.values, "model_type": wrapper.text})
    is_tied = fields.boolean("tie_word_embeddings", wrapper.is_tied)
    is_tied = fields.boolean("tie_embedding", is_tied)  # LFM2-VL's name of it
    if wrapper.is_flat:  # transformers looks in both places
        is_tied = is_tied or text.boolean("tie_word_embeddings", False)
    kind = text.text("model_type", wrapper.text)
    said: dict[str, Any] = {"model_type": kind, "tie_word_embeddings": is_tied}
    if kind in wrapper.plain:
        missing = {key: value for key, value in wrapper.defaults.items() if key not in text}
        said |= missing | dict(_unsectioned(text)) | {"model_type": wrapper.plain[kind]}
    named = {text.prefix + key: value for key, value in said.items()}
    return replace(text, values={**text.values, **named}), wrapper.unread


def _unsectioned(text: Fields) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rotary settings without the sections of channels that text turns alike."""
    for key in ("rope_scaling", "rope_parameters"):
        settings = text.raw(key, None)
        if isinstance(settings, dict):
            kept = {k: v for k, v in settings.items() if k not in SECTIONS}
            kinds = {k: "default" for k in ("type", "rope_type") if kept.get(k) == "mrope"}
            yield key, kept | kinds

"""Models that see or hear beside a text model, which alone is served: its settings stand in
`text_config`, and what belongs to the other senses is left where it is.

A row here is a `model_type` whose answer to text alone is the text model's, by the names that
transformers gives its parts; what the whole would do with a picture is not asked.
"""

from dataclasses import dataclass, replace

from thirdeye.weights.formats.fields import Fields

EYES = ("vision_tower.", "multi_modal_projector.")
NEWLINE = (*EYES, "image_newline")
SENSES = ("vision_tower.", "audio_tower.", "embed_vision.", "embed_audio.", "vision_embedder.")
IDEFICS = ("vision_model.", "connector.")


@dataclass(frozen=True, slots=True)
class Wrapper:
    """`text`, `is_tied`: what transformers' class takes where the file does not say."""

    text: str  # the text part's `model_type`
    is_tied: bool  # whether the head is the embeddings, which is said for the whole
    others: tuple[str, ...] = EYES  # how names begin that are not the text part's

    @property
    def unread(self) -> tuple[str, ...]:
        return tuple(prefix + part for prefix in ("", "model.") for part in self.others)


WRAPPERS = {
    "gemma3": Wrapper("gemma3_text", is_tied=True),
    "gemma4": Wrapper("gemma4_text", is_tied=True, others=SENSES),
    "gemma4_unified": Wrapper("gemma4_unified_text", is_tied=True, others=SENSES),
    "mistral3": Wrapper("mistral", is_tied=True),
    "llava": Wrapper("llama", is_tied=False),
    "llava_next": Wrapper("llama", is_tied=False, others=NEWLINE),
    "llava_onevision": Wrapper("qwen2", is_tied=False, others=NEWLINE),
    "vipllava": Wrapper("llama", is_tied=False),
    "idefics3": Wrapper("llama", is_tied=False, others=IDEFICS),
    "smolvlm": Wrapper("llama", is_tied=False, others=IDEFICS),
    "internvl": Wrapper("qwen2", is_tied=True),
    "qwen3_5": Wrapper("qwen3_5_text", is_tied=False, others=("visual.",)),
    "qwen3_5_moe": Wrapper("qwen3_5_moe_text", is_tied=False, others=("visual.",)),
    "lighton_ocr": Wrapper("qwen3", is_tied=True, others=("vision_encoder.", "vision_projection.")),
}


def text_part(fields: Fields) -> tuple[Fields, tuple[str, ...]]:
    """Of a config.json: the settings of the model that reads and writes text, which may be one of
    several, and how the names of all other tensors begin."""
    wrapper = WRAPPERS.get(fields.text("model_type"))
    text = fields.nested("text_config")
    if wrapper is None or text is None:
        return fields, ()
    said = {
        "model_type": text.text("model_type", wrapper.text),
        "tie_word_embeddings": fields.boolean("tie_word_embeddings", wrapper.is_tied),
    }
    named = {text.prefix + key: value for key, value in said.items()}
    return replace(text, values={**text.values, **named}), wrapper.unread

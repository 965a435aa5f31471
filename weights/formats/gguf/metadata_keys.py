"""A file's settings of its architecture: every one is read, or known to be harmless, or refused.

llama.cpp reads what it knows and passes over the rest; a key that a newer converter writes, or
that another architecture has, would here change nothing where it should have. So whoever reads a
file is listened to, and what nobody asked for is looked up below.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from thirdeye.weights.formats.fields import Fields, shown

ANY = None
HARMLESS: Mapping[str, tuple[object, ...] | None] = {  # with these values; with any
    "vocab_size": ANY,  # the embedding's rows say it
    "tensor_data_layout": ANY,  # of the tensors' origin
    "attention.layer_norm_epsilon": ANY,  # beside the other kind of norm's,
    "attention.layer_norm_rms_epsilon": ANY,  # which the architecture has
    "attention.sliding_window_pattern": ANY,  # beside no window
    "expert_used_count": ANY,  # beside no experts: those are refused
    "expert_feed_forward_length": ANY,
    "full_attention_interval": ANY,  # beside a list of the layers that keep a state
    "pooling_type": ANY,  # of embeddings
    "rope.dimension_count": ANY,  # beside learned positions
    "rope.freq_base": ANY,
    "rope.scaling.finetuned": ANY,  # of how it was trained
    "rope.scaling.factor": ANY,  # beside a type that is none, or a table of factors
    "rope.scale_linear": ANY,
    "rope.scaling.original_context_length": ANY,  # beside a type that needs none
    "rope.scaling.yarn_beta_fast": ANY,
    "rope.scaling.yarn_beta_slow": ANY,
    "rope.scaling.attn_factor": (1.0,),
    "rope.scaling.yarn_attn_factor": (1.0,),
    "rope.scaling.yarn_ext_factor": (1.0,),
    **dict.fromkeys(  # beside no layer with a state, whose tensors would have no place
        ("ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.inner_size"), ANY
    ),
    "ssm.time_step_rank": ANY,
    "use_parallel_residual": ANY,  # llama.cpp looks at the tensors
}
TOKENIZER_HARMLESS: Mapping[str, tuple[object, ...] | None] = {  # of `tokenizer.ggml.`
    "token_type": ANY,  # beside a kind of vocabulary that has none
    "token_type_count": ANY,  # of BERT's embeddings
    "scores": ANY,  # beside merges
    "merges": ANY,  # beside scores
    "pre": ANY,  # beside pieces, which have no cuts
    "unknown_token_id": ANY,  # text without a token is an error
    "seperator_token_id": ANY,
    "add_sep_token": ANY,  # between the two texts of a pair: nobody sends pairs
    "cls_token_id": ANY,
    "mask_token_id": ANY,
    "padding_token_id": ANY,
    "add_space_prefix": ANY,  # beside bytes, where llama.cpp does not look at it either
    "remove_extra_whitespaces": ANY,
    "suppress_tokens": ANY,  # of how to draw: `suggested_sampling.py` reads it
    **dict.fromkeys(  # of filling in, which prompts do by the tokens' names
        [f"fim_{part}_token_id" for part in ("pre", "suf", "mid", "pad", "rep", "sep")], ANY
    ),
    **dict.fromkeys(("prefix_token_id", "suffix_token_id", "middle_token_id"), ANY),
}
OFF = (0, 0.0)  # a number that means none


class Noted(Mapping[str, Any]):
    """A mapping that remembers which of its keys were asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def refuse_unread(
    fields: Fields, noted: Noted, harmless: Mapping[str, tuple[object, ...] | None] = HARMLESS
) -> None:
    """`fields`: of the architecture's own keys, or the tokenizer's. Raises `ModelFormatError` for
    the first that was not asked for and might matter."""
    unread = sorted(set(noted) - noted.asked)
    for name in unread:
        key, value = name.removeprefix(fields.prefix), noted[name]
        if key != name and not _is_harmless(key, value, harmless):
            raise fields.error(key, f"is a setting that is not known here (value {shown(value)}).")


def _is_harmless(
    key: str, value: object, harmless: Mapping[str, tuple[object, ...] | None]
) -> bool:
    is_number = type(value) in (int, float)
    if is_number and value in OFF:
        return True
    if key not in harmless:
        return False
    values = harmless[key]
    return values is ANY or (is_number and value in values)

"""The keys of tokenizer_config.json: each is obeyed, refused where it says something, or harmless.

transformers keeps a key that it does not know, and does nothing with it. Here such a key is named
at the start: another program may cut text by it.
"""

import logging
from collections.abc import Iterator, Mapping

from thirdeye.weights.formats.fields import Fields

logger = logging.getLogger(__name__)
OBEYED = frozenset(
    ["added_tokens_decoder", "add_bos_token", "add_eos_token", "chat_template", "bos_token",
     "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
     "additional_special_tokens", "extra_special_tokens",
     "add_prefix_space",  # compared with tokenizer.json, which counts
     "legacy",  # of tokenizer.model
     "tokenizer_class"]  # of vocab.json and merges.txt
)  # fmt: skip
# What would change how text is cut, with the values that change nothing.
REFUSED: Mapping[str, tuple[object, ...]] = {
    "do_lower_case": (False,),
    "split_special_tokens": (False,),
    "sp_model_kwargs": ({},),
    "strip_accents": (False,),
    "fix_mistral_regex": (False,),
}
FILES = "names a file, and files are found by their own names"
LENGTHS = "of texts cut or filled to one length, which nobody asks for here"
BOOKS = "of bookkeeping"
DECODE = "of transformers' decode, which changes texts: tokens are bytes here, and bytes are kept"
PARTS = "a part of tokenizer.json says so too, and counts"
HARMLESS: Mapping[str, str] = {
    "vocab_file": FILES, "merges_file": FILES, "tokenizer_file": FILES,
    "fast_tokenizer_files": FILES, "special_tokens_map_file": FILES,
    "gguf_file": FILES, "subfolder": FILES,
    "max_length": LENGTHS, "model_max_length": LENGTHS, "max_len": LENGTHS, "padding": LENGTHS,
    "padding_side": LENGTHS, "pad_to_multiple_of": LENGTHS, "pad_token_type_id": LENGTHS,
    "stride": LENGTHS, "truncation": LENGTHS, "truncation_side": LENGTHS,
    "truncation_strategy": LENGTHS,
    "_commit_hash": BOOKS, "auto_map": BOOKS, "backend": BOOKS, "device_map": BOOKS,
    "from_slow": BOOKS, "is_local": BOOKS, "local_files_only": BOOKS, "name_or_path": BOOKS,
    "processor_class": BOOKS, "slow_tokenizer_class": BOOKS, "transformers_version": BOOKS,
    "trust_remote_code": BOOKS, "use_fast": BOOKS, "verbose": BOOKS,
    "model_input_names": "of tensors that transformers makes",
    "clean_up_tokenization_spaces": DECODE, "errors": DECODE,
    "spaces_between_special_tokens": DECODE,
    "byte_fallback": PARTS, "trim_offsets": PARTS, "keep_accents": PARTS, "remove_space": PARTS,
    "add_dummy_prefix_space": PARTS,
    "model_specific_special_tokens": "names of tokens that are added ones",
    "chat_control_tokens": "names of tokens that are added ones",
    "response_schema": "of how transformers reads answers", "response_template": "the same",
    "use_default_system_prompt": "of templates that transformers no longer makes up",
}  # fmt: skip


def check_settings(settings: Fields) -> None:
    """Raises `ModelFormatError` for a key that means what we do not do; warns of unknown ones."""
    for key, neutral in REFUSED.items():
        settings.refuse(key, *neutral)
    if unknown := [*unknown_keys(settings)]:
        logger.warning(
            "%s: also says %s, which are not known here and not obeyed",
            settings.path,
            ", ".join(name[:40] for name in unknown[:8]),
        )


def unknown_keys(settings: Fields) -> Iterator[str]:
    """Keys that say something to somebody. A token's name for some purpose is none: the token is
    an added one."""
    for key, value in settings.values.items():
        is_name = key.endswith("_token") or key in OBEYED | REFUSED.keys() | HARMLESS.keys()
        if not is_name and value not in (None, False, "", [], {}):
            yield key

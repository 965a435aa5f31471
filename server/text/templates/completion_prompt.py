"""A raw prompt to token ids: BOS and EOS where the model wants them, special literals as ids.

The opposite of a chat message, where text never becomes a special token
(`thirdeye.server.text.templates.special_tokens`): whoever writes a raw prompt writes the template
by hand. Ids are taken as they are: their range is the API's check.
"""

from thirdeye.server.text.tokenizer import TokenizerLike


class PromptTooLong(ValueError):
    """The prompt has more tokens than fit; how many exactly was not counted."""

    def __init__(self, num_tokens_at_least: int, max_tokens: int) -> None:
        super().__init__(
            f"The prompt must have at most {max_tokens} tokens, got at least {num_tokens_at_least}."
        )
        self.num_tokens_at_least = num_tokens_at_least
        self.max_tokens = max_tokens


def encode_prompt(
    prompt: str | list[int],
    tokenizer: TokenizerLike,
    add_special_tokens: bool = True,
    *,
    is_whole: bool = False,
) -> list[int]:
    """Token ids of a prompt. `is_whole`: no answer continues it, so it has an end.

    Raises ValueError, fit for a client, for one without any token. Call it from a thread, and only
    after `too_long` said no: a megabyte takes half a second.
    """
    if isinstance(prompt, list):
        if not prompt:
            raise ValueError("'prompt' must have at least one token, got an empty list.")
        return list(prompt)
    bos = tokenizer.bos_token_id
    if not prompt:
        if bos is None:
            raise ValueError(
                "'prompt' must not be empty: this model has no BOS token to start from."
            )
        return [bos]
    ids = tokenizer.encode_with_special(prompt)
    if not add_special_tokens:
        return ids
    return [*tokenizer.prefix_ids, *ids, *(tokenizer.suffix_ids if is_whole else ())]


def fewest_tokens(text: str, tokenizer: TokenizerLike) -> int:
    """A number of tokens that `text` cannot have fewer of, without tokenizing it."""
    return -(-len(text.encode()) // tokenizer.max_token_bytes)


def too_long(text: str, max_tokens: int, tokenizer: TokenizerLike) -> bool:
    """Whether `text` is certainly more than `max_tokens`: refuse it before tokenizing."""
    return fewest_tokens(text, tokenizer) > max_tokens

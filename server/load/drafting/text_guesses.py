"""How many guesses from the text a step may verify, and why none where they were asked for."""

from dataclasses import dataclass

from thirdeye.model.config import ModelConfig
from thirdeye.server.load.engine_recipe import EngineRecipe

WAY_OUT = "add '--cuda-graphs off' for them"
LOOKS_BACK = (
    "an answer with a grammar, penalties or an adapter has none where steps are launched ahead; "
    f"{WAY_OUT}"
)


@dataclass(frozen=True, slots=True)
class TextGuesses:
    most: int  # for one text in one step; 0: none are made
    refused: str = ""  # why none are made, where they were asked for by name


def choose_text_guesses(recipe: EngineRecipe, model: ModelConfig, *, is_ahead: bool) -> TextGuesses:
    """`is_ahead`: steps are launched before the last one is read, and guesses verified a step late.
    No GPU has said yet what these win, so there they are made where they are asked for by name, or
    a draft model is."""
    asked = recipe.speculation
    if not is_ahead:
        return TextGuesses(asked.max_draft_tokens)
    if asked.speculation != "ngram" and asked.draft is None:
        return TextGuesses(0)
    if recipe.placement.tensor_parallel > 1:
        return TextGuesses(
            0, f"several ranks verify none where steps are launched ahead; {WAY_OUT}"
        )
    if model.state is not None:
        reason = "a layer's state cannot be taken back where steps are launched ahead"
        return TextGuesses(0, f"{reason}; {WAY_OUT}")
    return TextGuesses(asked.max_draft_tokens)


def most_decode_rows(
    recipe: EngineRecipe, model: ModelConfig, num_tokens: int, *, is_ahead: bool
) -> int:
    """Of a step without a prompt's chunk, among steps of at most so many tokens: guesses that are
    verified a step late are rows too."""
    most = recipe.scheduling.max_num_seqs
    if not is_ahead or not choose_text_guesses(recipe, model, is_ahead=True).most:
        return most
    return max(most, min(num_tokens, recipe.speculation.max_tokens_with_drafts))

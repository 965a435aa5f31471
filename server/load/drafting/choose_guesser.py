"""Which model guesses, if one was asked for; prompt lookup needs none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer
from thirdeye.server.load.drafting.guesser import Guesser, LoadModel
from thirdeye.server.load.drafting.load_draft import find_draft, load_draft
from thirdeye.server.load.drafting.load_head import find_head, load_head
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.weights.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class ChosenGuesser:
    """Found to fit, and not loaded. `load` is called with the served model, where that went, the
    dtype of keys and values, and how models are loaded."""

    what: str
    load: Callable[[Transformer, Placement, torch.dtype, LoadModel], Guesser]

    def check_steps(self, *, is_ahead: bool) -> None:
        """Raises ValueError where steps are launched before the last one is read."""
        if is_ahead:
            raise ValueError(
                f"{self.what} needs to know a token before it guesses the next, and steps are "
                "launched ahead here: add '--cuda-graphs off'."
            )


def choose_guesser(recipe: EngineRecipe, served: Checkpoint) -> ChosenGuesser | None:
    """Before any weight is read. Raises ValueError or ModelError with the way out."""
    asked = recipe.speculation
    if asked.draft is None and asked.speculation != "mtp":
        return None
    what = "'--speculation' mtp" if asked.draft is None else f"'--draft' {asked.draft}"
    if asked.draft is not None and asked.speculation not in ("auto", "ngram"):
        raise ValueError(
            f"{what} and '--speculation' {asked.speculation} do not go together: leave one out."
        )
    if recipe.placement.tensor_parallel > 1:
        raise ValueError(f"{what} does not go with '--tensor-parallel': leave one out.")
    if asked.draft is None:
        return ChosenGuesser(what, partial(load_head, find_head(served)))
    draft = find_draft(asked.draft, served)
    return ChosenGuesser(what, partial(load_draft, draft, asked.draft_quantize))
